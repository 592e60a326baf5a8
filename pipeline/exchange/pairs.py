"""Finished pairs of other people to pairs: their texts as they are, their images as candidates.

Nothing is judged here: an imported pair was made by somebody else's policy. What cannot be a pair at all (an empty
side, the same text twice, no image) is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...base.tables.table import BadRow, Row, Table
from ..records import Pair, Reject, content_id
from ..stage import Stage
from ..store import Run
from .answers import ImageLookup
from .images import ImageInputs, rejected
from .row_formats import IMAGE_FIELDS, ImageSaid, PairSaid, image_said, pair_said
from .row_source import RowSource

STAGE = "pairs"
BATCH = 16


def pair_source(table: Table, images: ImageInputs) -> RowSource:
    """Return the rows of a table of pairs."""

    def said(row: Row) -> Sequence[str | None]:
        image = image_said(row.fields)
        path = image.path if image else None
        texts = repr({name: value for name, value in row.fields.items() if name not in IMAGE_FIELDS})
        return texts, path, images.stamp(path, row.number)

    return RowSource(table, "pair", said)


@dataclass(frozen=True, slots=True)
class _Found:
    place: str
    said: PairSaid
    image_id: str


class PairImportStage(Stage[Row, Pair]):
    """Join rows with their images. `held`: the ids of the pairs that are committed already."""

    def __init__(self, run: Run, images: ImageInputs, held: Sequence[str]) -> None:
        self.lookup, self.seen = ImageLookup(run, images), set(held)

    def prepare(self, inputs: Sequence[Row]) -> list[_Found | Reject]:
        """Read the texts and find the images; only embedded ones are hashed again."""
        return [self._find(row) for row in inputs]

    def _find(self, row: Row) -> _Found | Reject:
        try:
            if row.fault:
                raise row.fault
            said, image = pair_said(row.fields), image_said(row.fields)
            return _Found(row.place, said, self._image(image or ImageSaid(None, None)))
        except BadRow as fault:
            return rejected(row.place, STAGE, fault)

    def _image(self, said: ImageSaid) -> str:
        try:
            return self.lookup.by_content(said)
        except BadRow as fault:
            why = fault.detail if fault.reason == "no_image" else f"{fault.reason}: {fault.detail}"
            raise BadRow("no_image", why) from fault

    def compute(self, prepared: Sequence[_Found | Reject]) -> list[Pair | Reject]:
        """Make the pairs; the second one of equal pairs is a reject."""
        outcome: list[Pair | Reject] = []
        for item in prepared:
            if isinstance(item, Reject):
                outcome.append(item)
                continue
            said = item.said
            identity = content_id("pair", item.image_id, said.question, said.chosen, said.rejected)
            if identity in self.seen:
                outcome.append(Reject(item.place, STAGE, "duplicate", f"the same pair as {identity}"))
                continue
            self.seen.add(identity)
            outcome.append(
                Pair(identity, item.image_id, said.question, said.chosen, said.rejected, source=said.name or item.place)
            )
        return outcome
