"""What approximations of drawing cost and save: every lever against exact drawing, judged by the oracle.

All draw the same prompts from the same seeds, batch by batch in turns within one process, at one thread; the times are
CPU seconds of the drawing stage (and, for pruning, of its early look). The best of a prompt's candidates is picked by
the run's image reward.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ...base.progress import Progress
from ...engine.images import decode_image
from ...micro.world.candidates import judged_groups
from ...micro.world.language import caption
from ...micro.world.scenes import Scene
from ...pipeline.records import Candidate, Prompt
from ...pipeline.stages.generate import GenerateConfig, GenerateStage
from ...recipes.recipe import Recipe
from ...recipes.settings import override
from .study import Interval, Study, bootstrap

EXACT = "exact"
LEVERS: dict[str, tuple[str, ...]] = {
    EXACT: (),
    "guidance reused once (guidance_cache 2)": ("generate.levers.guidance_cache=2",),
    "guidance reused three times (guidance_cache 4)": ("generate.levers.guidance_cache=4",),
    "every other step extrapolated (step_cache 2)": ("generate.levers.step_cache=2",),
    "two of three steps extrapolated (step_cache 3)": ("generate.levers.step_cache=3",),
    "guided from 0.9 down to 0.3 (guidance_interval)": ("generate.levers.guidance_interval=[0.3,0.9]",),
    "guided down to 0.5 (guidance_interval)": ("generate.levers.guidance_interval=[0.5,1]",),
    "best 2 of 4 finished after a look at step 4 (prune)": ("generate.prune.after=4", "generate.prune.keep=2"),
    "best 1 of 4 finished after a look at step 4 (prune)": ("generate.prune.after=4", "generate.prune.keep=1"),
    "guidance_cache 2 and prune after 4, 2 kept": (
        *("generate.levers.guidance_cache=2", "generate.prune.after=4", "generate.prune.keep=2"),
    ),
    "6 steps of 8": ("generate.steps=6",),
    "4 steps of 8": ("generate.steps=4",),
    "half the side (16 pixels)": ("generate.width=16", "generate.height=16"),
}
"""By what the table calls them: the settings of each. The micro recipe draws in 8 steps."""


@dataclass
class Drawn:
    """One way's images by prompt and guidance scale, and the CPU seconds of every batch."""

    images: dict[tuple[int, float], np.ndarray] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


def draw_in_turns(
    recipe: Recipe, scenes: Sequence[Scene], progress: Progress, clock: Callable[[], float] = time.process_time
) -> dict[str, Drawn]:
    """Draw the scenes' prompts in every way of LEVERS, each batch by all of them before the next batch."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stages = {}
        for name, settings in LEVERS.items():
            changed = override(recipe, settings)
            config: GenerateConfig = changed.generate.scored_by(changed.score)
            stages[name] = GenerateStage(config, changed.engine.of_stage("generate"))
        prompts = [Prompt(f"p{row}", row + 1, caption(scene), "") for row, scene in enumerate(scenes)]
        drawn = {name: Drawn() for name in LEVERS}
        size = int(recipe.generate.batch_size)
        for stage in stages.values():
            stage(prompts[:1])  # what the first call alone has to do is nobody's cost
        progress.begin("drawing", len(prompts), 0, "prompts")
        for start in range(0, len(prompts), size):
            for name, stage in stages.items():
                began = clock()
                computed = stage.compute(prompts[start : start + size])
                drawn[name].seconds.append(clock() - began)
                for row in stage.finish(computed):
                    if isinstance(row, Candidate):
                        key = int((row.prompt_id or "p")[1:]), float(row.guidance or 0)
                        drawn[name].images[key] = np.asarray(decode_image(row.image))
            progress.step("drawing", len(prompts[start : start + size]))
        progress.end("drawing", f"{len(prompts)} prompts in {len(LEVERS)} ways")
        return drawn
    finally:
        torch.set_num_threads(before)


def generation_study(recipe: Recipe, scenes: Sequence[Scene], drawn: dict[str, Drawn]) -> Study:
    """The table: time, rightness of the pick, its agreement with the exact pick, and the distance of the images."""
    picks = {name: _picked(recipe, scenes, ways) for name, ways in drawn.items()}
    right = {name: _right(scenes, drawn[name], picks[name]) for name in drawn}
    exact = drawn[EXACT]
    rows: list[dict[str, Any]] = []
    for name, ways in drawn.items():
        ratios = np.array(ways.seconds) / np.array(exact.seconds)
        share, less = bootstrap(right[name]), bootstrap(right[name] - right[EXACT])
        same = [picks[name][row] == picks[EXACT][row] for row in range(len(scenes))]
        rows.append(
            {
                "drawn": name,
                "cpu_seconds_ratio": round(float(np.median(ratios)), 3),
                **share.columns(),
                **less.columns("minus_exact", "minus_exact_low", "minus_exact_high"),
                "same_pick": round(float(np.mean(same)), 4),
                "psnr": "" if name == EXACT else round(psnr(ways.images, exact.images), 2),
            }
        )
    best = min((row for row in rows if row["minus_exact_low"] > -0.05), key=lambda row: row["cpu_seconds_ratio"])
    interval = Interval(best["minus_exact"], best["minus_exact_low"], best["minus_exact_high"])

    def draw(axes: Any) -> None:
        for row in rows:
            errors = [[row["share"] - row["low"]], [row["high"] - row["share"]]]
            axes.errorbar(row["cpu_seconds_ratio"], row["share"], yerr=errors, fmt="o", label=row["drawn"])
        axes.set_xlabel("CPU seconds, as a share of exact drawing")
        axes.set_ylabel("share of picked images that show what was asked")
        axes.legend(fontsize=6)

    return Study(
        "generation",
        "What approximations of drawing cost and save",
        rows,
        f"Of the ways whose interval stays above -0.05, the cheapest is '{best['drawn']}': "
        f"{best['cpu_seconds_ratio']:.2f} of the CPU seconds, and {interval} more picked images that are exactly right "
        f"({len(scenes)} prompts).",
        draw,
    )


def psnr(images: dict[tuple[int, float], np.ndarray], exact: dict[tuple[int, float], np.ndarray]) -> float:
    """Decibels of the mean squared difference over the images that both have; smaller ones are enlarged by repetition.

    Infinite where all are equal.
    """
    errors = []
    for key in images.keys() & exact.keys():
        other = exact[key].astype(np.float64)
        factor = len(other) // len(images[key])
        errors.append(np.square(images[key].astype(np.float64).repeat(factor, 0).repeat(factor, 1) - other).mean())
    mean = float(np.mean(errors))
    return float("inf") if mean == 0 else 10 * np.log10(255**2 / mean)


def _picked(recipe: Recipe, scenes: Sequence[Scene], ways: Drawn) -> list[float | None]:
    """The guidance scale of the candidate that the image reward picks for every prompt."""
    keys = sorted(ways.images)
    scorer = recipe.score.load(recipe.engine.of_stage("score"))
    pictures = [Image.fromarray(ways.images[key]) for key in keys]
    texts = [caption(scenes[row]) for row, _ in keys]
    scores = scorer.score(scorer.preprocess(pictures), texts).values
    best: dict[int, tuple[float, float]] = {}
    for (row, scale), score in zip(keys, scores.tolist(), strict=True):
        if row not in best or score > best[row][0]:
            best[row] = (score, scale)
    return [best[row][1] if row in best else None for row in range(len(scenes))]


def _right(scenes: Sequence[Scene], ways: Drawn, picks: Sequence[float | None]) -> np.ndarray:
    """Whether the picked image of every prompt shows exactly what was asked [N]; one without an image does not."""
    right = np.zeros(len(scenes))
    for row, (scene, scale) in enumerate(zip(scenes, picks, strict=True)):
        if scale is not None:
            image = ways.images[row, scale]
            factor = 32 // len(image)
            right[row] = judged_groups([scene], image.repeat(factor, 0).repeat(factor, 1)[None]).exact[0, 0]
    return right
