"""Preferences between images as rankings: a JSON list with images beside it, and what annotators said.

A ranking says less than preferences with ties: an image that ties with its neighbours, which do not tie with each
other, has to come between them. It never contradicts a preference: a prompt whose preferences go in a circle has no
ranking, is left out and counted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..records import Annotation, ImagePreference
from .judged_prompts import JudgedPrompt
from .ratings import RATING, rating
from .writer import JsonFiles, Target, Writer

ANNOTATIONS = "annotations.parquet"
_ANNOTATIONS = pa.schema([("image", pa.string()), ("image_id", pa.string()), ("prompt_id", pa.string()), *RATING])


class RankingWriter(Writer[JudgedPrompt]):
    """NAME.json, one row per prompt, `images/` and `annotations.parquet`."""

    name: ClassVar[str]

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.annotations = pq.ParquetWriter(target.path / ANNOTATIONS, _ANNOTATIONS, compression="zstd")
        self.files = JsonFiles(target.path, self.name, ".json")

    @abstractmethod
    def row(self, prompt: JudgedPrompt, images: dict[str, str], standing: Sequence[int]) -> dict[str, Any]:
        """Return what the format says of a prompt: `images` are paths by id, the higher the standing the better."""

    def add(self, row: JudgedPrompt) -> dict[str, Any] | None:
        """Write a prompt's images with their ranks."""
        if (reason := _why_unranked(row)) is not None:
            self.left_out[reason] += 1
            return None
        places = standing(row.images, row.overall)
        self.untied += _ordered(places) - len({frozenset((one.chosen_id, one.rejected_id)) for one in row.overall})
        paths = {identity: self.image_file(row.image(identity)) for identity in row.images}
        about = {"split": row.split, "prompt_id": row.id}
        made = [row.lineage.of_image(row.image(identity)) for identity in paths]
        self.files.add(row.split, self.row(row, paths, places) | {"split": row.split, "made": made})
        self.rows[row.split] += 1
        told = [
            {"image": paths[one.subject_id], "image_id": one.subject_id, "prompt_id": row.id} | rating(one)
            for rows in row.annotations.values()
            for one in rows
            if one.subject_id in paths
        ]
        if told:
            self.annotations.write_table(pa.Table.from_pylist(told, schema=_ANNOTATIONS))
        return about

    def close(self) -> None:
        """End the files."""
        self.files.close()
        self.annotations.close()


def standing(images: Sequence[str], preferences: Sequence[ImagePreference]) -> list[int]:
    """Return for every image how many it is preferred to, less how many are preferred to it."""
    won, lost = Counter(one.chosen_id for one in preferences), Counter(one.rejected_id for one in preferences)
    return [won[image] - lost[image] for image in images]


def ranks(standing: Sequence[float]) -> list[int]:
    """Places from 1 for the highest; equals share the first of theirs (1, 2, 2, 4)."""
    return [1 + sum(other > own for other in standing) for own in standing]


def mean_ranks(standing: Sequence[float]) -> list[float]:
    """Places from 1 for the highest; equals share the mean of theirs (1, 2.5, 2.5, 4)."""
    return [
        1 + sum(other > own for other in standing) + (sum(other == own for other in standing) - 1) / 2
        for own in standing
    ]


def presented(rows: Sequence[Annotation]) -> list[list[Annotation]]:
    """Return what one annotator said, presentation by presentation."""
    numbers = sorted({row.presentation for row in rows})
    return [[row for row in rows if row.presentation == number] for number in numbers]


def rated_order(rows: Sequence[Annotation], images: Sequence[str]) -> list[int] | None:
    """Return the ranks that one annotator's mean ratings give; None where an image has none."""
    ratings = {
        image: [row.rating for row in rows if row.subject_id == image and row.rating is not None] for image in images
    }
    if not all(ratings.values()):
        return None
    return ranks([sum(own) / len(own) for own in ratings.values()])


def _why_unranked(prompt: JudgedPrompt) -> str | None:
    if not prompt.overall:
        return "without an overall preference"
    scores = dict(zip(prompt.images, standing(prompt.images, prompt.overall), strict=True))
    if any(scores[one.chosen_id] <= scores[one.rejected_id] for one in prompt.overall):
        return "with contradictory preferences"
    return None


def _ordered(scores: Sequence[int]) -> int:
    """How many pairs of images have different places."""
    return sum(one != other for place, one in enumerate(scores) for other in scores[:place])
