"""The demo: the whole loop on the micro world, and the proof of what it did.

Prompts are scenes of the test split; the policy is evaluated on other scenes of that split, whose combinations of
objects occur neither in training nor in the prompts. A second training, on half of the pairs in both of their orders,
is the control: it prefers nothing. Trainings are processes of their own: what does not wait for them goes on meanwhile.
The second begins later, and finds what the first has read by the reference.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ..base.files import write_text
from ..base.progress import Progress
from ..base.versions import package_versions
from ..engine.device import hardware_description
from ..engine.sd3.text_to_image import TextToImage
from ..engine.settings import EngineSettings
from ..micro.measure.held_out import held_out_scenes
from ..micro.world.candidates import draw_candidates
from ..micro.world.render import render_all
from ..micro.world.scenes import Scene
from ..pipeline.report import write_report
from ..pipeline.store import Run
from ..pipeline.summary import summarize
from ..pipeline.synthesis import synthesize
from ..recipes.engine_builds import build_missing
from ..recipes.engines import stage_models
from ..recipes.recipe import Recipe
from ..recipes.settings import override, to_yaml
from ..train.progress import train_with_progress
from .background import half_of_the_cores, in_background
from .derived_runs import indifferent_run
from .hallucination import PolicyAnswers, absent_words, compare, evaluate_policy
from .micro_recipe import micro_recipe
from .selection import guidance_share, judged_candidates, selection_results

PROMPTS = 240
EVALUATED = 400
QUESTIONED = 120
"""How many of the evaluated scenes are asked yes/no questions about."""
DRAWN = 200
"""How many of them the generator draws, to be described."""
SEED = 1
ENGINES = ("engine.stages.generate.backend=onnxruntime", "engine.missing=eager")
"""Drawing is the longest stage, and `make demo` builds engines for it. Without them it is done eagerly, and said.
Settings of `engine` that are given take the place of these."""


@dataclass(frozen=True)
class Demonstrated:
    """What was measured, and where the report is."""

    results: dict[str, Any]
    report: Path


def run_demo(folder: Path, progress: Progress, settings: Sequence[str] = ()) -> Demonstrated:
    """Run, continue or find the demo in `folder`; `results.json` and the report are in it at the end.

    `settings` change the micro recipe; what is measured of its results is measured eagerly, whatever runs the stages.
    """
    prompts, held_out = held_out_scenes("test", PROMPTS, EVALUATED, SEED)
    engines = () if any(setting.startswith("engine.") for setting in settings) else ENGINES
    config = override(micro_recipe(folder, prompts, SEED), [f"train.seed={SEED}", *engines, *settings])
    with Run.writing(folder) as run:
        write_text(folder / "run.yaml", to_yaml(config))
        unfinished = [stage.name for stage in stage_models(config) if not run.manifest(stage.name).get("complete")]
        build_missing(config, unfinished, progress)
        synthesize(run, config, progress)
        seconds: dict[str, float] = {}
        results = _measure(run, config, held_out, progress, seconds)
        stages = summarize(run)["stages"]
        results |= {
            "pairs": stages["pairs"]["outputs"],
            "rejects": {name: stage["rejects"] for name, stage in stages.items() if stage["rejects"]},
            "seconds": {name: stage["seconds"] for name, stage in stages.items()} | seconds,
            "date": date.today().isoformat(),
            "hardware": hardware_description(),
            "versions": package_versions(),
        }
        write_text(folder / "results.json", json.dumps(results) + "\n")
        return Demonstrated(results, write_report(run, absent_words))


def _measure(
    run: Run, config: Recipe, scenes: Sequence[Scene], progress: Progress, seconds: dict[str, float]
) -> dict[str, Any]:
    """Judge the selection, train with the preferences and without them, and evaluate before and after."""
    assert config.train is not None
    cache = config.train.cache or str(run.folder / "training-cache")
    train = config.train.model_copy(update={"cache": cache})
    eager = config.engine.model_copy(update={"backend": "eager", "stages": {}})

    def trained(folder: Path, task: str, name: str) -> Path:
        with _timed(seconds, task):
            train_with_progress(folder, folder / "training", train, progress, name)
        return folder / "training" / "adapter"

    def said(name: str, adapter: Path | None) -> PolicyAnswers:
        task = f"evaluate_{name}"
        with _timed(seconds, task):
            return evaluate_policy(train.model, adapter, images, scenes, eager, progress, task, drawn, QUESTIONED)

    candidates = judged_candidates(run)
    with _timed(seconds, "judge_selection"):
        selection = selection_results(candidates, eager)
    control = indifferent_run(run, run.folder / "control", SEED).folder
    with half_of_the_cores():
        learnt = in_background(lambda: trained(run.folder, "train", "training"))
        images = render_all(scenes, SEED)
        with _timed(seconds, "draw_held_out"):
            drawn = _drawn(scenes[:DRAWN], config, eager)
        before = said("before", None)
        unlearnt = in_background(lambda: trained(control, "train_control", "control"))
        after = said("after", learnt.result())
        adapter = unlearnt.result()
    indifferent = said("control", adapter)
    return {
        "selection": selection,
        "guidance_share": guidance_share(candidates),
        "dpo": compare(before, after),
        "control": compare(before, indifferent),
    }


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block takes."""
    began = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - began, 1)


def _drawn(scenes: Sequence[Scene], config: Recipe, engine: EngineSettings) -> np.ndarray:
    """Return generated images [N, 32, 32, 3] of scenes, at the recipe's first guidance scale, that came out as asked.

    Of others nobody knows what they show: the oracle names the nearest drawing, and that may be far.
    """
    model = TextToImage.from_pretrained(config.generate.model, engine, t5_tokens=config.generate.t5_tokens)
    scale, steps = config.generate.guidance[0], config.generate.steps
    drawn = draw_candidates(model, scenes, SEED, guidance=(scale,), steps=steps)
    return drawn.images[drawn.exact]
