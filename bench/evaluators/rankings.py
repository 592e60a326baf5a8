"""Human rankings of images, whatever file they come from, and what an evaluation of scorers on them consists of.

A benchmark is one file: how its rows are read, the rule of its official evaluation, and the numbers published for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.tables.table import Row
from .measures import Ratio

Scores = Sequence[Sequence[float]]
"""Of every item, one score per image."""


@dataclass(frozen=True, slots=True)
class RankedImages:
    """The images of one prompt and what people say of them.

    Either `ranks`, one per image, lower is better, equal is a tie; or `pairs` of (aspect, better, worse).
    """

    id: str
    prompt: str
    images: tuple[str, ...]
    ranks: tuple[float, ...] = ()
    pairs: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Rankings:
    """A benchmark's file, read. `read_images` gives an item's encoded images; `left_out` counts rows by reason."""

    items: Sequence[RankedImages]
    sha256: str
    read_images: Callable[[RankedImages], list[bytes]]
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A number somebody published for a scorer, in percent, and where."""

    name: str
    value: float
    source: str


@dataclass(frozen=True)
class RankingBenchmark:
    """One benchmark. `version` changes with whatever would change a number; `headline` is the measure of its table.

    `recognises` says whether a row's fields, or a folder, are its own. `measure` takes the scores of the items and
    what `choose` returned for scores of validation items (none where there are none, or nothing to choose).
    """

    name: str
    title: str
    rule: str
    version: int
    headline: str
    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Path, Path | None], Rankings]
    measure: Callable[[Sequence[RankedImages], Scores, Mapping[str, float]], dict[str, Ratio]]
    published: tuple[Published, ...] = ()
    official_sha256: str | None = None
    choose: Callable[[Sequence[RankedImages], Scores], dict[str, float]] | None = None


def field_of(row: Row, name: str, kind: type | tuple[type, ...]) -> Any:
    """Return a row's field of a type. Raises PrefmillError, which names the place, where it is another or missing."""
    if row.fault:
        raise PrefmillError(f"{row.place}: {row.fault.reason}: {row.fault.detail}", "correct this item")
    value = row.fields.get(name)
    if value is None or not isinstance(value, kind) or isinstance(value, bool):
        found = "is missing" if value is None else f"is a {type(value).__name__}"
        raise PrefmillError(f"{row.place}: the field {name!r} {found}.", "correct this item, or name its --format")
    return value


def texts_of(row: Row, name: str) -> tuple[str, ...]:
    """Return a row's list of texts. Raises PrefmillError for anything else, and for one text twice."""
    values = field_of(row, name, list)
    if not all(isinstance(value, str) and value for value in values):
        raise PrefmillError(f"{row.place}: {name!r} holds what is no file name.", "correct this item")
    if len(set(values)) < len(values):
        raise PrefmillError(f"{row.place}: {name!r} names an image twice.", "correct this item")
    return tuple(values)


def ranks_of(row: Row, name: str, images: int) -> tuple[float, ...]:
    """Return a row's ranks, one per image. Raises PrefmillError for another count and for what is no number."""
    values = field_of(row, name, list)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or any(map(math.isnan, numbers)):
        raise PrefmillError(f"{row.place}: {name!r} holds what is no rank.", "correct this item")
    if len(values) != images or images < 2:
        raise PrefmillError(
            f"{row.place}: {len(values)} ranks in {name!r} for {images} images.", "give two images or more, ranked each"
        )
    return tuple(values)


def checked(items: Sequence[RankedImages], path: Path) -> Sequence[RankedImages]:
    """Return the items. Raises PrefmillError where there are none, and for an id that occurs twice."""
    if not items:
        raise PrefmillError(f"{path} holds nothing that people decided.", "give a file with rankings")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise PrefmillError(f"{path}: the id {item.id!r} occurs twice.", "remove one of the two items")
        seen.add(item.id)
    return items


def images_below(root: Path | None) -> Callable[[RankedImages], list[bytes]]:
    """Return a reader of images by their names below a folder, none of which may lead out of it."""

    def read(item: RankedImages) -> list[bytes]:
        from ...base.tables.table import BadRow
        from ...pipeline.exchange.image_files import locate

        if root is None:
            raise PrefmillError("the images' folder is not given.", "name it with --images")
        try:
            return [locate(root.resolve(), name).read() for name in item.images]
        except BadRow as fault:
            raise PrefmillError(
                f"item {item.id}: {fault.detail}", "correct --images, or leave what is missing out with --allow-partial"
            ) from fault

    return read
