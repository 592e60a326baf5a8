"""Is an image reward better for having been taught all aspects? Judged by the oracle on pairs that nobody trained on.

A seed is one loop of VisionPrefer's micro recipe: its own prompts, images, annotations and preferences, and a reward
trained on each kind of them. The same generators then draw for scenes that were not asked for before, and the oracle
says which of two images is better, by the mean of its ratings of the four aspects; pairs that it rates the same are
left out. The unit of intervals is a prompt: its share of pairs in the right order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine.responders.image_ratings import ASPECTS
from ...engine.settings import MICRO_PREFIX, EngineSettings
from ...micro.checkpoints import checkpoint_folder
from ...micro.measure.selection import score_candidates
from ...micro.world.aspects import overall, rate_images
from ...micro.world.candidates import draw_candidates, open_generator
from ...micro.world.language import caption
from ...micro.world.scenes import Scene
from ...pipeline.generate_settings import GeneratorConfig
from .study import Study, bootstrap, error_bars

ALL = "all four"
TRAINED = {ALL: ("overall",), **{aspect: (aspect,) for aspect in ASPECTS}}
"""What rewards are trained on, by the name in the table."""
SHIPPED = ("image-reward", "clip", "blip-matching")


@dataclass(frozen=True)
class RatedImages:
    """N prompts with G images each: `images` uint8 [N, G, H, W, 3]; `ratings` [N, G] by `overall` and every aspect."""

    prompts: list[str]
    images: np.ndarray
    ratings: Mapping[str, np.ndarray]


def rated_images(scenes: Sequence[Scene], generators: Sequence[GeneratorConfig], seed: int) -> RatedImages:
    """Draw the scenes as the generators' settings say, and have the oracle rate what came of it."""
    drawn = []
    for number, settings in enumerate(generators):
        model = open_generator(checkpoint_folder(settings.model.removeprefix(MICRO_PREFIX)))
        found = draw_candidates(model, scenes, seed + 1000 * number, guidance=settings.guidance, steps=settings.steps)
        drawn.append(found.images)
    images = np.concatenate(drawn, axis=1)
    asked = [scene for scene in scenes for _ in range(images.shape[1])]
    rows = rate_images(asked, images.reshape(-1, *images.shape[2:]))
    columns = {aspect: [row[aspect] for row in rows] for aspect in ASPECTS} | {
        "overall": [overall(row) for row in rows]
    }
    ratings = {name: np.array(values, dtype=float).reshape(images.shape[:2]) for name, values in columns.items()}
    return RatedImages([caption(scene) for scene in scenes], images, ratings)


def shipped_scores(rated: RatedImages, settings: EngineSettings) -> dict[str, np.ndarray]:
    """Scores [N, G] by the micro world's own scorers."""
    return {name: scores_by(rated, name, f"{MICRO_PREFIX}{name}", settings) for name in SHIPPED}


def scores_by(rated: RatedImages, name: str, source: str, settings: EngineSettings) -> np.ndarray:
    """Scores [N, G] by a scorer of the kind `name`, loaded from `source`."""
    return score_candidates(name, source, rated.images, rated.prompts, settings)


def pair_accuracy(scores: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """For each prompt the share of its pairs of unequal rating that the scores order so; NaN where there is none.

    Equal scores are wrong.
    """
    better = ratings[:, :, None] > ratings[:, None, :]
    right = better & (scores[:, :, None] > scores[:, None, :])
    pairs = better.sum((1, 2)).astype(float)
    return np.divide(right.sum((1, 2)), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def aspects_study(rated: Sequence[RatedImages], scores: Sequence[Mapping[str, np.ndarray]]) -> Study:
    """`scores` has, for each seed, those of every scorer by name; all seeds have the same names."""
    found = {name: _accuracy(rated, scores, name, "overall") for name in scores[0]}
    rows: list[dict[str, Any]] = []
    for name, values in found.items():
        behind = bootstrap(found[ALL] - values)
        row = {"scorer": name, "prompts": len(values), **bootstrap(values).columns()}
        row |= behind.columns("all_minus_this", "all_minus_low", "all_minus_high")
        for aspect in ASPECTS:
            row[aspect] = round(float(_accuracy(rated, scores, name, aspect).mean()), 4)
        rows.append(row)
    best = max(ASPECTS, key=lambda aspect: found[aspect].mean())
    leads = {name: bootstrap(found[ALL] - found[name]) for name in (*SHIPPED, best)}

    def draw(axes: Any) -> None:
        axes.barh(range(len(rows)), [row["share"] for row in rows], xerr=error_bars(rows), color="#4c78a8")
        axes.set_yticks(range(len(rows)), [row["scorer"] for row in rows])
        axes.invert_yaxis()
        axes.axvline(0.5, color="gray", linewidth=0.8, linestyle="--")
        axes.set_xlabel("share of pairs in the oracle's order")

    return Study(
        "aspects",
        f"Rewards trained on all aspects or on one, {len(rated)} seeds; the oracle judges",
        rows,
        f"Over {len(found[ALL])} prompts a reward trained on preferences by all four aspects orders "
        f"{bootstrap(found[ALL])} of the pairs as the oracle does: more than CLIP by {leads['clip']}, than BLIP by "
        f"{leads['blip-matching']}, than the shipped image reward by {leads['image-reward']}, and than the best of the "
        f"rewards trained on one aspect ({best}) by {leads[best]}.",
        draw,
    )


def _accuracy(
    rated: Sequence[RatedImages], scores: Sequence[Mapping[str, np.ndarray]], name: str, by: str
) -> np.ndarray:
    values = [pair_accuracy(own[name], images.ratings[by]) for images, own in zip(rated, scores, strict=True)]
    joined = np.concatenate(values)
    return joined[~np.isnan(joined)]
