"""How well a scorer selects: whether the image it picks shows exactly what was asked.

Random choice is taken at its expectation, the mean of a prompt's candidates, so that a comparison with it carries no
luck of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...engine.scorers.catalogue import load_image_scorer
from ...engine.settings import EngineSettings

SCORERS = {"image-reward": "imagereward", "clip": "clip", "blip-matching": "blip"}
"""The micro checkpoints that score images, and which of the engine's scorers loads each."""


@dataclass(frozen=True)
class SelectionQuality:
    """Shares of prompts whose image is exactly right: chosen at random, by a scorer, and against it (its worst).

    `t` is the paired t statistic of picked minus random over the prompts.
    """

    random: float
    picked: float
    worst: float
    t: float


def score_candidates(
    name: str, source: str, images: np.ndarray, prompts: Sequence[str], settings: EngineSettings
) -> np.ndarray:
    """Scores [N, G] of images uint8 [N, G, H, W, 3], G for each of N prompts, by one of SCORERS, loaded from `source`.

    Raises PrefmillError for whatever does not load.
    """
    scorer = load_image_scorer(SCORERS[name], source, settings)
    pictures = [Image.fromarray(image) for group in images for image in group]
    asked = [prompt for prompt in prompts for _ in range(images.shape[1])]
    return scorer.score(scorer.preprocess(pictures), asked).values.numpy().reshape(images.shape[:2])


def selection_quality(exact: np.ndarray, scores: np.ndarray) -> SelectionQuality:
    """Judge a scorer by its scores [N, G] of candidates that are `exact` [N, G] or not."""
    expected = exact.mean(1)
    picked, worst = pick(exact, scores), pick(exact, -scores)
    return SelectionQuality(
        float(expected.mean()), float(picked.mean()), float(worst.mean()), paired_t(picked - expected)
    )


def pick(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """For each of N prompts the value [N, G] of its highest-scored candidate, as float [N]."""
    return np.take_along_axis(values, scores.argmax(1)[:, None], 1)[:, 0].astype(float)


def paired_t(differences: np.ndarray) -> float:
    """The t statistic of the mean of differences [N] against zero; 0 where they are all zero."""
    deviation = differences.std(ddof=1)
    return float(differences.mean() / (deviation / len(differences) ** 0.5)) if deviation > 0 else 0.0
