"""Recorded scores: a file of JSON lines that a scoring writes row by row, and that an evaluation reads alone.

One row is one item by one scorer:

    {"scorer": "clip", "id": "005658-0040", "item": "1f0c...", "key": "clip@ab12...", "scores": [0.31, 0.29]}

`item` is a digest of the prompt and the names of the images, `key` the scorer's weights; other people's files may lack
both, and `scorer` too. What ImageReward's test.py writes (`rewards` in place of `scores`) is read as it is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.files import make_folder, reason_of
from ...pipeline.records import content_id
from .answers.records import FileRecord, read_records
from .rankings import RankedImages


@dataclass(frozen=True, slots=True)
class ItemScores:
    """A scorer's scores of an item's images, NaN where there is none, and why; `place` is where they were read."""

    id: str
    scores: tuple[float, ...]
    place: str = ""
    digest: str | None = None
    key: str | None = None
    truncated: bool = False
    problem: str | None = None


@dataclass
class RecordedScores:
    """Scores by scorer and item id, and the files that they are from, by path with their SHA-256."""

    by_scorer: dict[str, dict[str, ItemScores]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path, scorer: str | None = None) -> None:
        """Read a file, packed by gzip or not; `scorer` names its scores where its rows do not, else the file does.

        A row takes the place of one that says why there are no scores. Raises PrefmillError, which names the row, for
        what is no score and for an item that a scorer has twice.
        """
        file = read_records(path, "--scores", rows="scores")
        for row in file.records:
            name, found = _parsed(row, scorer or Path(path.name.removesuffix(".gz")).stem)
            own = self.by_scorer.setdefault(name, {})
            if found.id in own and not own[found.id].problem:
                raise PrefmillError(
                    f"{found.place}: {name} has scores for {found.id!r} already, at {own[found.id].place}.",
                    "remove one of the two rows, or call one file's scores otherwise: --scores NAME=FILE",
                )
            own[found.id] = found
        self.files[str(path)] = file.source.sha256


def digest_of(item: RankedImages) -> str:
    """Return what tells an item from another of the same id: 32 hex digits of its prompt and its images' names."""
    return content_id("ranked_images", item.prompt, *item.images)


def check_fit(own: Mapping[str, ItemScores], items: Sequence[RankedImages], scorer: str) -> None:
    """Raise PrefmillError for scores of an item that is not there, of another item, or of another count of images."""
    known = {item.id: item for item in items}
    for name, found in own.items():
        item = known.get(name)
        if item is None:
            raise PrefmillError(f"{found.place}: {scorer} scored {name!r}, which the data does not hold.", _OTHER)
        if found.digest is not None and found.digest != digest_of(item):
            raise PrefmillError(f"{found.place}: {scorer} scored another prompt or images as {name!r}.", _OTHER)
        if len(found.scores) != len(item.images):
            raise PrefmillError(
                f"{found.place}: {len(found.scores)} scores of {scorer} for the {len(item.images)} images of {name!r}.",
                _OTHER,
            )


def usable(
    items: Sequence[RankedImages], by_scorer: Mapping[str, Mapping[str, ItemScores]], *, partial: bool
) -> tuple[list[RankedImages], dict[str, str]]:
    """Return the items that all scorers have scored, and of the others why not.

    Raises PrefmillError for the first of the others unless `partial`, and where nothing is left.
    """
    left_out: dict[str, str] = {}
    for scorer, own in by_scorer.items():
        for item in items:
            found = own.get(item.id)
            if found is None:
                left_out.setdefault(item.id, f"{scorer} has no scores for it")
            elif not all(map(math.isfinite, found.scores)):
                why = found.problem or f"{scorer} scored {', '.join(f'{score:g}' for score in found.scores)}"
                left_out.setdefault(item.id, why)
    if left_out and not partial:
        first, why = next(iter(left_out.items()))
        raise PrefmillError(
            f"item {first!r} cannot be evaluated: {why}; so {len(left_out)} of {len(items)} items.",
            "complete the scores, or give --allow-partial, which leaves such items out for all scorers and says so",
        )
    kept = [item for item in items if item.id not in left_out]
    if not kept:
        raise PrefmillError("no item has scores of all scorers.", "give the scores of this data")
    return kept, left_out


class ScoreLog:
    """A file of scores that grows by whole rows. What a kill left half written at its end is cut off.

    Raises PrefmillError for a file of another form, such as a JSON list or a packed file, which is left as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = 0
        """How many bytes of a half written row were cut off."""
        make_folder(path.parent)
        try:
            content = path.read_bytes() if path.exists() else b""
            if content.strip() and not content.lstrip().startswith(b"{"):
                raise PrefmillError(
                    f"{path} is no file of JSON lines, so no scores can be added to it.",
                    "name another file for them with the first --scores",
                )
            self.cut = len(content) - (content.rfind(b"\n") + 1)
            self.file = path.open("ab")
            self.file.truncate(len(content) - self.cut)
        except OSError as error:
            raise PrefmillError(f"cannot write {path}: {reason_of(error)}", "choose another --scores") from error
        self.empty = len(content) == self.cut

    def __enter__(self) -> ScoreLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, scorer: str, rows: Sequence[ItemScores]) -> None:
        """Append rows and have them on the disk. Raises PrefmillError when the file system refuses."""
        text = "".join(json.dumps(_row(scorer, one), ensure_ascii=False) + "\n" for one in rows)
        try:
            self.file.write(text.encode("utf-8", "backslashreplace"))
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise PrefmillError(f"cannot write {self.path}: {reason_of(error)}", "make room, then continue") from error


_OTHER = "give the scores of this data, or the data of these scores"


def _row(scorer: str, one: ItemScores) -> dict[str, Any]:
    row: dict[str, Any] = {"scorer": scorer, "id": one.id, "item": one.digest, "key": one.key}
    row["scores"] = [score if math.isfinite(score) else None for score in one.scores]
    row["truncated"] = one.truncated
    return row | ({"problem": one.problem} if one.problem else {})


def _parsed(row: FileRecord, scorer: str) -> tuple[str, ItemScores]:
    fields = row.fields
    name, scores = fields.get("id"), fields.get("scores", fields.get("rewards"))
    if isinstance(name, bool) or not isinstance(name, str | int) or not isinstance(scores, list):
        raise PrefmillError(f"{row.place}: no row of scores: it needs an id and a list of scores.", "correct this row")
    return str(fields.get("scorer") or scorer), ItemScores(
        str(name),
        tuple(_numbers(scores, row.place)),
        row.place,
        fields.get("item"),
        fields.get("key"),
        bool(fields.get("truncated")),
        fields.get("problem"),
    )


def _numbers(scores: Sequence[Any], place: str) -> Iterator[float]:
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, int | float | None):
            raise PrefmillError(f"{place}: {str(score)[:40]!r} is no score.", "correct this row")
        yield math.nan if score is None else float(score)
