"""Does tuning the generator help? Methods against their base on the micro world, whose truth the oracle reads.

    prefmill bench generator_tuning --method refl --seeds 3 --to tuning/refl

Every seed has prompts of its own to train on, and held-out ones that have no combination of objects in common with
them. Base and tuned draw the held-out prompts from the same noise, twice at each guidance scale; what counts is the
share of images that show exactly what was asked, and how far the two images of a prompt are apart: a generator that
pleases its reward with one picture per prompt has lost something.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..base.progress import Progress
from ..base.text import printable
from ..engine.sd3.text_to_image import TextToImage
from ..engine.settings import EngineSettings
from ..micro.measure.held_out import held_out_scenes
from ..micro.world.candidates import STEPS, draw_candidates
from ..micro.world.language import caption
from ..micro.world.scenes import Scene
from ..pipeline.records import Prompt, content_id
from ..pipeline.shards import Footer, write_shard
from ..pipeline.store import Run
from ..recipes.generator_tuning import micro
from ..recipes.settings import override
from ..train.generator.training import train_generator_with_progress
from .result_file import called, write_result
from .studies.study import bootstrap

GUIDANCE = (1.0, 5.0)
TRAINED_ON = 512
HELD_OUT = 240


@dataclass(frozen=True)
class DrawnQuality:
    """Held-out prompts drawn twice at every scale: `exact` bool [N, scales, 2], `spread` [N, scales]."""

    exact: np.ndarray
    spread: np.ndarray

    @classmethod
    def measure(cls, model: str, adapter: Path | None, scenes: Sequence[Scene], seed: int) -> Self:
        """Draw with a generator, tuned where an adapter is given, and have the oracle judge."""
        generator = TextToImage.from_pretrained(model, EngineSettings(device="cpu"), t5_tokens=0, adapter=adapter)
        drawn = draw_candidates(generator, scenes, seed, guidance=[scale for scale in GUIDANCE for _ in range(2)])
        count = len(scenes)
        pixels = drawn.images.reshape(count, len(GUIDANCE), 2, -1).astype(np.float64) / 255
        spread = np.sqrt(np.square(pixels[:, :, 0] - pixels[:, :, 1]).mean(-1))
        return cls(drawn.exact.reshape(count, len(GUIDANCE), 2), spread)


def prompt_run(folder: Path, scenes: Sequence[Scene]) -> Path:
    """Make (or find) a run that holds prompts for the scenes and nothing else."""
    texts = [caption(scene) for scene in scenes]
    rows = [
        Prompt(content_id("prompt", text), number, text, f"micro:{number}")
        for number, text in enumerate(dict.fromkeys(texts), start=1)
    ]
    with Run.writing(folder) as run:
        if not run.has("prompts"):
            (folder / "prompts").mkdir(exist_ok=True)
            write_shard(folder / "prompts", 0, len(rows), Prompt, rows, Footer(work="tuning"))
            manifest = {"stage": "prompts", "fingerprint": content_id("prompts", *texts), "models": []}
            run.write_manifest("prompts", {**manifest, "outputs": len(rows)})
    return folder


def compare(base: DrawnQuality, tuned: DrawnQuality) -> dict[str, Any]:
    """Per scale: shares of exact images, the difference with its interval by prompt, and the ratio of the spreads.

    `over_best`: the same against the base at the scale that is best for it.
    """
    best = int(base.exact.mean((0, 2)).argmax())
    found = {}
    for place, scale in enumerate(GUIDANCE):
        before, after, most = (
            one.mean(1) for one in (base.exact[:, place], tuned.exact[:, place], base.exact[:, best])
        )
        found[f"guidance {scale:g}"] = {
            "base": round(float(before.mean()), 4),
            "tuned": round(float(after.mean()), 4),
            **bootstrap(after - before).columns("difference"),
            "over_best": round(float((after - most).mean()), 4),
            "spread_ratio": round(float(tuned.spread[:, place].mean() / base.spread[:, place].mean()), 4),
        }
    return found


def generator_tuning(
    folder: Path, settings: Sequence[str], seeds: Sequence[int], progress: Progress, held_out: int = HELD_OUT
) -> dict[int, dict[str, Any]]:
    """Tune by the micro settings, overridden by `settings`, once per seed, and compare with the base."""
    results = {}
    for seed in seeds:
        asked, others = held_out_scenes("dev", TRAINED_ON, held_out, seed)
        run = prompt_run(folder / f"run-{seed}", asked)
        config = override(micro(), ["flow_dpo.online=true", *settings, f"seed={seed}"])
        output = folder / f"tuned-{seed}"
        manifest = train_generator_with_progress(run, output, config, progress, f"seed {seed}")
        base, tuned = (DrawnQuality.measure(config.model, one, others, seed) for one in (None, output / "adapter"))
        results[seed] = {**compare(base, tuned), "device_seconds": manifest.device_seconds}
        progress.line(f"seed {seed}: {printable(json.dumps(results[seed]))}")
    return results


def main() -> None:
    """Tune, compare, write the result, and print it as the last line."""
    parser = argparse.ArgumentParser(description="What tuning a generator does to held-out prompts of the micro world.")
    parser.add_argument("--method", default="flow-dpo", help="flow-dpo, ppo or refl")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=HELD_OUT, help="held-out prompts")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the training")
    parser.add_argument("--to", type=Path, default=Path("results/generator-tuning"))
    options = parser.parse_args()
    given = [f"method={options.method}", *options.set]
    found = generator_tuning(options.to, given, range(1, options.seeds + 1), Progress(), options.prompts)
    setting = {"settings": given, "held_out": options.prompts, "steps": STEPS, "guidance": GUIDANCE}
    claims = {str(seed): result for seed, result in found.items()}
    write_result(options.to / "result.json", called("prefmill bench generator_tuning"), setting, claims)
    print(json.dumps(claims))
