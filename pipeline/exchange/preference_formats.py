"""What the rows of other people's preferences between images say, in the formats in use.

    imagereward  {id, prompt, generations, ranking}: the lower the rank the better, equal ranks are ties
    hpdv2        {prompt, image_path, rank} (its test set) or {prompt, file_path, human_preference} (its training set,
                 where 1 is preferred)
    image-pairs  {caption, jpg_0, jpg_1, label_0}, as Pick-a-Pic; label 0.5 is a tie. Optionally aspect, margin,
                 model_0, guidance_0, seed_0, steps_0

A row that says none of this raises `BadRow` with the reason for its reject.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

from ...base.errors import PrefmillError
from ...base.tables.table import BadRow, Table
from ..annotating.settings import OVERALL
from .row_formats import LOOK_AT, ImageSaid, image_said, integer_in, number_in, text_in

PAIR_SIDES = ("jpg_0", "jpg_1")
_RANKED = {"imagereward": ("generations", "ranking", True), "hpdv2": ("image_path", "rank", True)}
_RANKED |= {"hpdv2-train": ("file_path", "human_preference", False)}
_PROMPTS = ("prompt", "caption", "text")


@dataclass(frozen=True, slots=True)
class RankedImage:
    """One image of a row, and how it was drawn, where the row says so."""

    said: ImageSaid
    model: str = "imported"
    guidance: float | None = None
    seed: int | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class PreferencesSaid:
    """The images of one prompt, and which (by number) are preferred to which: (better, worse)."""

    name: str | None
    prompt: str
    images: tuple[RankedImage, ...]
    better: tuple[tuple[int, int], ...]
    aspect: str = OVERALL
    margin: float | None = None


def format_of(table: Table, option: str) -> str:
    """Return the format of a table's rows. Raises PrefmillError saying what was found."""
    seen: dict[str, None] = {}
    for row in islice(table.scan(), LOOK_AT):
        if found := _format(row.fields):
            return found
        seen |= dict.fromkeys(row.fields)
    raise PrefmillError(
        f"{table.name} holds no preferences between images: its rows have {', '.join(seen) or 'no readable field'}",
        f"give {option} rows of ImageRewardDB (generations, ranking), HPDv2 (image_path, rank), or Pick-a-Pic "
        "(caption, jpg_0, jpg_1, label_0)",
    )


def _format(fields: dict[str, Any]) -> str | None:
    for name, (images, ranks, _) in _RANKED.items():
        if images in fields and ranks in fields:
            return name
    return "image-pairs" if "label_0" in fields else None  # a scan leaves the images themselves out


def images_said(fields: dict[str, Any]) -> tuple[RankedImage, ...]:
    """Return the images of a row. Raises BadRow no_image, unknown_format, several_images."""
    name = _format(fields)
    if name is None:
        raise BadRow("unknown_format", f"its fields are {', '.join(fields)}")
    if name == "image-pairs":
        return tuple(_side(fields, side) for side in (0, 1))
    paths = fields[_RANKED[name][0]]
    if not isinstance(paths, list):
        raise BadRow("no_image", f"{_RANKED[name][0]} is a {type(paths).__name__}, not a list")
    return tuple(RankedImage(image_said({"image": path}) or ImageSaid(None, None)) for path in paths)


def _side(fields: dict[str, Any], side: int) -> RankedImage:
    return RankedImage(
        image_said({"image": fields.get(PAIR_SIDES[side])}) or ImageSaid(None, None),
        text_in(fields, (f"model_{side}",)) or "imported",
        number_in(fields, f"guidance_{side}"),
        integer_in(fields, f"seed_{side}"),
        integer_in(fields, f"steps_{side}"),
    )


def preferences_said(fields: dict[str, Any]) -> PreferencesSaid:
    """Return what a row prefers. Raises BadRow no_text, invalid_ranks, tie, and those of `images_said`."""
    images, prompt = images_said(fields), text_in(fields, _PROMPTS)
    if prompt is None or not prompt.strip():
        raise BadRow("no_text", f"none of the fields {', '.join(_PROMPTS)}")
    name = _format(fields)
    if name == "image-pairs":
        label = number_in(fields, "label_0")
        if label is None:
            raise BadRow("invalid_ranks", "label_0 is empty")
        ranks, first_is_best = [label, 1 - label], False
    else:
        _, column, first_is_best = _RANKED[name or ""]
        ranks = _ranks(fields[column], len(images))
    order = [rank if first_is_best else -rank for rank in ranks]
    better = tuple(
        (one, other) if order[one] < order[other] else (other, one)
        for one, other in combinations(range(len(images)), 2)
        if order[one] != order[other]
    )
    if not better:
        raise BadRow("tie", "no image is preferred to another")
    return PreferencesSaid(
        text_in(fields, ("id", "ranking_id")),
        prompt,
        images,
        better,
        text_in(fields, ("aspect",)) or OVERALL,
        number_in(fields, "margin"),
    )


def _ranks(values: Any, images: int) -> list[float]:
    if not isinstance(values, list) or len(values) != images:
        raise BadRow("invalid_ranks", f"{images} images came with the ranks {values!r}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadRow("invalid_ranks", f"{value!r} is no rank")
    return [float(value) for value in values]
