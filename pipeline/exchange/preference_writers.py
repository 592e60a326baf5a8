"""The files of exported preferences between images: rankings as JSON with images beside them, and pairs as Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ..annotating.settings import OVERALL
from ..records import Annotation, Candidate, ImagePreference, seed_for
from .image_names import ImageNames

GROUP_BYTES = 32 << 20  # a Parquet row group: what a reader holds at a time
SHARD_BYTES = 1 << 30
ANNOTATIONS = "annotations.parquet"
_RATING = [
    *(("annotator", pa.string()), ("aspect", pa.string()), ("rating", pa.int64()), ("reason", pa.string())),
    *(("position", pa.int64()), ("presentation", pa.int64())),
]
_ANNOTATIONS = pa.schema([("image", pa.string()), ("image_id", pa.string()), ("prompt_id", pa.string()), *_RATING])
_SIDES = (
    *(("jpg", pa.binary()), ("label", pa.float64()), ("image_{}_uid", pa.string()), ("model", pa.string())),
    *(("guidance", pa.float64()), ("seed", pa.int64()), ("steps", pa.int64())),
    ("ratings", pa.list_(pa.struct(_RATING))),
)
_PAIRS = pa.schema(
    [
        ("caption", pa.string()),
        *((name.format(side) if "{}" in name else f"{name}_{side}", kind) for name, kind in _SIDES for side in (0, 1)),
        *(("best_image_uid", pa.string()), ("has_label", pa.bool_()), ("are_different", pa.bool_())),
        *(("aspect", pa.string()), ("margin", pa.float64()), ("prompt_id", pa.string()), ("id", pa.string())),
    ]
)
_IMAGES = frozenset({"jpg_0", "jpg_1"})


class RankingWriter:
    """A JSON list of ranked images, one prompt at a time, a folder of images, and what annotators said."""

    def __init__(self, folder: Path, format: str) -> None:
        self.folder, self.format, self.rows, self.images = folder, format, 0, ImageNames()
        (folder / "images").mkdir(parents=True)
        self.annotations = pq.ParquetWriter(folder / ANNOTATIONS, _ANNOTATIONS, compression="zstd")
        self.file = (folder / f"{format}.json").open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def add(
        self,
        prompt_id: str,
        prompt: str,
        images: Sequence[Candidate],
        standing: Sequence[int],
        annotations: Mapping[str, Sequence[Annotation]],
    ) -> None:
        """Write a prompt's images with their ranks: the higher the standing, the lower the rank, from 1."""
        paths = {image.id: self._write(image) for image in images}
        if self.format == "imagereward":
            row: dict[str, Any] = {"id": prompt_id, "prompt": prompt, "generations": list(paths.values())}
            row["ranking"] = ranks(standing)
        else:
            said = [_order(rows, list(paths)) for folder in annotations.values() for rows in _presented(folder)]
            row = {"prompt": prompt, "image_path": list(paths.values()), "rank": mean_ranks(standing)}
            row["raw_annotations"] = [order for order in said if order is not None]
        self.file.write((",\n" if self.rows else "[\n") + json.dumps(row, ensure_ascii=False, indent=1))
        self.rows += 1
        told = [
            {"image": paths[one.subject_id], "image_id": one.subject_id, "prompt_id": prompt_id} | _rating(one)
            for rows in annotations.values()
            for one in rows
            if one.subject_id in paths
        ]
        if told:
            self.annotations.write_table(pa.Table.from_pylist(told, schema=_ANNOTATIONS))

    def _write(self, image: Candidate) -> str:
        known = image.id in self.images.names
        path = PurePosixPath("images", self.images.name(image))
        if not known:
            (self.folder / path).write_bytes(image.image)
        return str(path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.write("\n]\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self.annotations.close()


class PairsWriter:
    """Parquet with the columns of Pick-a-Pic that trainings read: one file, or a folder of shards."""

    def __init__(self, target: Path, *, single: bool, shard_bytes: int = SHARD_BYTES) -> None:
        self.target, self.single, self.shard_bytes = target, single, shard_bytes
        self.images, self.rows = ImageNames(), 0
        self.file: pq.ParquetWriter | None = None
        self.shards, self.written, self.pending = 0, 0, 0
        self.waiting: list[dict[str, Any]] = []
        if not single:
            target.mkdir()

    def __enter__(self) -> Self:
        return self

    def add(
        self,
        preference: ImagePreference,
        chosen: Candidate,
        rejected: Candidate,
        ratings: Mapping[str, Sequence[Annotation]],
    ) -> None:
        """Write a pair; which of the two comes first depends on its id, so that no reader learns a side."""
        sides = [(chosen, 1.0), (rejected, 0.0)]
        if seed_for(preference.id, "order") % 2:
            sides.reverse()
        row: dict[str, Any] = {
            "caption": preference.prompt,
            "best_image_uid": chosen.id,
            "has_label": True,
            "are_different": True,
            "aspect": preference.aspect,
            "margin": preference.margin,
            "prompt_id": preference.prompt_id,
            "id": preference.id,
        }
        for side, (image, label) in enumerate(sides):
            self.images.name(image)
            said = [one for one in ratings.get(image.id, ()) if preference.aspect in (OVERALL, one.aspect)]
            row |= {
                f"jpg_{side}": image.image,
                f"label_{side}": label,
                f"image_{side}_uid": image.id,
                f"model_{side}": image.model,
                f"guidance_{side}": image.guidance,
                f"seed_{side}": image.seed,
                f"steps_{side}": image.steps,
                f"ratings_{side}": [_rating(one) for one in said],
            }
            self.pending += len(image.image)
        self.waiting.append(row)
        self.rows += 1
        if self.pending >= min(GROUP_BYTES, self.shard_bytes):
            self._write_group()

    def _write_group(self) -> None:
        if not self.waiting:
            return
        if self.file is None:
            path = self.target if self.single else self.target / f"train-{self.shards:05d}.parquet"
            plain = [name for name in _PAIRS.names if name not in _IMAGES]
            options: dict[str, Any] = {
                # images are compressed already; trying again only costs time
                "compression": {name: "none" if name in _IMAGES else "zstd" for name in _PAIRS.names},
                "use_dictionary": [name for name in plain if not name.startswith("ratings")],
                "write_statistics": ["id"],
            }
            self.file = pq.ParquetWriter(path, _PAIRS, **options)
            self.shards, self.written = self.shards + 1, 0
        self.file.write_table(pa.Table.from_pylist(self.waiting, schema=_PAIRS))
        self.written += self.pending
        self.waiting, self.pending = [], 0
        if self.written >= self.shard_bytes and not self.single:
            self.file.close()
            self.file = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write_group()
        if self.file is not None:
            self.file.close()


def ranks(standing: Sequence[float]) -> list[int]:
    """Places from 1 for the highest; equals share the first of theirs (1, 2, 2, 4)."""
    return [1 + sum(other > own for other in standing) for own in standing]


def mean_ranks(standing: Sequence[float]) -> list[float]:
    """Places from 1 for the highest; equals share the mean of theirs (1, 2.5, 2.5, 4)."""
    return [
        1 + sum(other > own for other in standing) + (sum(other == own for other in standing) - 1) / 2
        for own in standing
    ]


def _presented(rows: Sequence[Annotation]) -> list[list[Annotation]]:
    """What one annotator said, presentation by presentation."""
    numbers = sorted({row.presentation for row in rows})
    return [[row for row in rows if row.presentation == number] for number in numbers]


def _order(rows: Sequence[Annotation], images: Sequence[str]) -> list[int] | None:
    """The ranks that one annotator's mean ratings give; None where an image has none."""
    ratings = {
        image: [row.rating for row in rows if row.subject_id == image and row.rating is not None] for image in images
    }
    if not all(ratings.values()):
        return None
    return ranks([sum(own) / len(own) for own in ratings.values()])


def _rating(one: Annotation) -> dict[str, Any]:
    return {name: getattr(one, name) for name, _ in _RATING}
