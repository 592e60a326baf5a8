"""The demo: the whole loop on the micro world, and the proof of what it did.

Prompts are scenes of the test split; the policy is evaluated on other scenes of that split, whose combinations of
objects occur neither in training nor in the prompts. A second training on the same pairs with their preferences
exchanged at random is the control.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.files import write_text
from ..base.progress import Progress
from ..engine.sd3.text_to_image import TextToImage
from ..micro.measure.held_out import held_out_scenes, prompt_lines
from ..micro.world.candidates import draw_candidates
from ..micro.world.render import render_all
from ..micro.world.scenes import Scene
from ..pipeline.report import write_report
from ..pipeline.store import Run
from ..pipeline.summary import summarize
from ..pipeline.synthesis import synthesize
from ..recipes.micro import micro
from ..recipes.recipe import Recipe
from ..recipes.settings import override, to_yaml
from ..train.progress import train_with_progress
from .derived_runs import shuffled_run
from .hallucination import PolicyAnswers, absent_words, compare, evaluate_policy
from .selection import guidance_share, judged_candidates, selection_results

PROMPTS = 240
EVALUATED = 400
SEED = 1


@dataclass(frozen=True)
class Demonstrated:
    """What was measured, and where the report is."""

    results: dict[str, Any]
    report: Path


def run_demo(folder: Path, progress: Progress) -> Demonstrated:
    """Run, continue or find the demo in `folder`; `results.json` and the report are in it at the end."""
    seconds: dict[str, float] = {}
    prompts, held_out = held_out_scenes("test", PROMPTS, EVALUATED, SEED)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "prompts.jsonl", prompt_lines(prompts, SEED))
    config = override(micro(), [f"prompts.path={(folder / 'prompts.jsonl').resolve()}"])
    with Run.writing(folder) as run:
        write_text(folder / "run.yaml", to_yaml(config))
        synthesize(run, config, progress)
        results = _measure(run, config, held_out, progress, seconds)
        summary = summarize(run)
        stages = {name: stage["seconds"] for name, stage in summary["stages"].items()}
        results |= {
            "pairs": summary["stages"]["pairs"]["outputs"],
            "rejects": {name: stage["rejects"] for name, stage in summary["stages"].items() if stage["rejects"]},
            "seconds": {**stages, **{name: round(value, 1) for name, value in seconds.items()}},
        }
        write_text(folder / "results.json", json.dumps(results) + "\n")
        return Demonstrated(results, write_report(run, absent_words))


def _measure(
    run: Run, config: Recipe, scenes: list[Scene], progress: Progress, seconds: dict[str, float]
) -> dict[str, Any]:
    """Judge the selection, train with the preferences and without them, and evaluate before and after."""
    assert config.train is not None

    def timed(name: str, work: Any) -> Any:
        began = time.monotonic()
        result = work()
        seconds[name] = time.monotonic() - began
        return result

    candidates = judged_candidates(run)
    selection = timed("judge_selection", lambda: selection_results(candidates, config.engine))
    train = config.train
    timed("train", lambda: train_with_progress(run.folder, run.folder / "training", train, progress))
    control = shuffled_run(run, run.folder / "control")
    trained = control.folder / "training"
    timed("train_control", lambda: train_with_progress(control.folder, trained, train, progress, "control"))
    images = render_all(scenes, SEED)
    drawn = timed("draw_held_out", lambda: _drawn(scenes, config))

    def evaluate(name: str, adapter: Path | None) -> PolicyAnswers:
        done = 0

        def advance(answered: int, total: int) -> None:
            nonlocal done
            if not done:
                progress.begin(name, total, unit="questions")
            progress.step(name, answered - done)
            done = answered

        work = lambda: evaluate_policy(train.model, adapter, images, scenes, config.engine, advance, drawn)  # noqa: E731
        return timed(name, work)

    before = evaluate("evaluate_before", None)
    after = evaluate("evaluate_after", run.folder / "training" / "adapter")
    shuffled = evaluate("evaluate_control", trained / "adapter")
    return {
        "selection": selection,
        "guidance_share": guidance_share(candidates),
        "dpo": compare(before, after),
        "control_shuffled": compare(before, shuffled),
    }


def _drawn(scenes: list[Scene], config: Recipe) -> np.ndarray:
    """Return generated images [N, 32, 32, 3] of scenes, at the recipe's first guidance scale."""
    model = TextToImage.from_pretrained(config.generate.model, config.engine, t5_tokens=config.generate.t5_tokens)
    scale, steps = config.generate.guidance[0], config.generate.steps
    return draw_candidates(model, scenes, SEED, guidance=(scale,), steps=steps).images[:, 0]
