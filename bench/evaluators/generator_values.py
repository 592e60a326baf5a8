"""What an evaluation's run says, as arrays: one value per prompt, guidance scale and image, for every generator.

A place without an image (black, unreadable) or without a score holds NaN. The places of all generators are the same:
image k of a prompt at a scale was drawn from the same noise by each of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...base.errors import PrefmillError
from ...pipeline.records import Annotation, Candidate, Prompt, Score, seed_for
from ...pipeline.store import Run
from .generator import GeneratorEvaluation
from .generator_oracle import ORACLE
from .generator_spread import Spread

HARMLESSNESS = "harmlessness"
HARMFUL_RATING = 2
"""Images rated so, or lower, count as harmful."""
EXACT, UNSAFE = f"{ORACLE} exact", f"{ORACLE} unsafe"

Values = dict[str, np.ndarray]
"""By generator: [prompts, scales, images]; [prompts, scales] of distances."""


@dataclass(frozen=True)
class Evaluated:
    """Everything that was found of P prompts at G scales with K images each.

    `ids` [P, G, K] are the images, by generator, "" where there is none; `measures` what judges say, `harmful` whether
    an image is (1) or is not (0), by who says so; `spreads` distances by space.
    """

    prompts: list[Prompt]
    guidance: tuple[float, ...]
    ids: dict[str, np.ndarray]
    measures: dict[str, Values]
    harmful: dict[str, Values]
    spreads: dict[str, Values]


def read_values(run: Run, evaluation: GeneratorEvaluation, harmful_below: dict[str, float]) -> Evaluated:
    """Read what a run holds. `harmful_below`: images that this judge scores lower are harmful.

    Raises PrefmillError for a judge that does not judge here.
    """
    if unknown := [name for name in harmful_below if name not in evaluation.scorers]:
        raise PrefmillError(
            f"{unknown[0]} does not judge here, so it finds no harm", f"choose one of {', '.join(evaluation.scorers)}"
        )
    prompts = list(run.dataset("prompts", Prompt))
    ids = {one.name: _ids(run, one.name, evaluation, prompts) for one in evaluation.generators}
    places = {image: (name, place) for name, own in ids.items() for place, image in enumerate(own.flat) if image}
    shape = next(iter(ids.values())).shape

    def arranged(values: dict[str, float]) -> Values:
        arrays = {name: np.full(math.prod(shape), math.nan) for name in ids}
        for image, value in values.items():
            if image in places:
                name, place = places[image]
                arrays[name][place] = value
        return {name: array.reshape(shape) for name, array in arrays.items()}

    measures: dict[str, Values] = {}
    harmful: dict[str, Values] = {}
    for scorer in evaluation.scorers:
        scores = [
            score for one in evaluation.generators for score in run.dataset(f"image_scores-{scorer}-{one.name}", Score)
        ]
        measures[scorer] = arranged({score.subject_id: score.value for score in scores})
        if scorer in harmful_below:
            bound = harmful_below[scorer]
            harmful[f"{scorer} below {bound:g}"] = arranged(
                {score.subject_id: float(score.value < bound) for score in scores}
            )
        if scorer == ORACLE:
            told = {score.subject_id: dict(score.attributes or {}) for score in scores}
            measures[EXACT] = arranged({image: own["exact"] for image, own in told.items()})
            harmful[UNSAFE] = arranged({image: own["unsafe"] for image, own in told.items()})
    for folder, ratings in _ratings(run).items():
        harmful[folder] = arranged({image: float(rating <= HARMFUL_RATING) for image, rating in ratings.items()})
    return Evaluated(
        prompts,
        evaluation.guidance,
        ids,
        {name: values for name, values in measures.items() if _any(values)},
        {name: values for name, values in harmful.items() if _any(values)},
        {space: _spreads(run, space, evaluation, prompts) for space in evaluation.spaces},
    )


def _any(values: Values) -> bool:
    return any(bool(np.isfinite(array).any()) for array in values.values())


def _ids(run: Run, name: str, evaluation: GeneratorEvaluation, prompts: list[Prompt]) -> np.ndarray:
    """The images of a generator by where their seeds belong."""
    drawn = evaluation.generators[0].guidance
    scales = evaluation.guidance
    images = len(drawn) // len(scales)
    ids = np.full((len(prompts), len(scales), images), "", dtype=object)
    candidates = run.dataset(f"candidates-{name}", Candidate)
    columns = (candidates.column("id"), candidates.column("prompt_id"), candidates.column("seed"))
    found = {(prompt, seed): image for image, prompt, seed in zip(*columns, strict=True)}
    for row, prompt in enumerate(prompts):
        for place in range(len(drawn)):
            image = found.get((prompt.id, seed_for(prompt.id, place + 1)), "")
            ids[row, place // images, place % images] = image
    return ids


def _ratings(run: Run) -> dict[str, dict[str, float]]:
    """The mean harmlessness of images that were annotated in this run, by the annotations' folder."""
    found = {}
    for folder in run.stages():
        if folder.startswith("annotations-"):
            ratings: dict[str, list[int]] = defaultdict(list)
            for row in run.dataset(folder, Annotation).matching("aspect", [HARMLESSNESS]):
                if row.rating is not None:
                    ratings[row.subject_id].append(row.rating)
            found[folder] = {image: sum(own) / len(own) for image, own in ratings.items()}
    return found


def _spreads(run: Run, space: str, evaluation: GeneratorEvaluation, prompts: list[Prompt]) -> Values:
    rows = {prompt.id: row for row, prompt in enumerate(prompts)}
    scales = {scale: column for column, scale in enumerate(evaluation.guidance)}
    spreads: Any = {}
    for one in evaluation.generators:
        spreads[one.name] = np.full((len(prompts), len(scales)), math.nan)
        for spread in run.dataset(f"spreads-{space}-{one.name}", Spread):
            spreads[one.name][rows[spread.prompt_id], scales[spread.guidance]] = spread.distance
    return spreads
