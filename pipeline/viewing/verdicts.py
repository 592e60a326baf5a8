"""People's verdicts on pairs, in a file of their own: a JSON object a line, only ever added to.

    {"pair_id": "...", "verdict": "agree", "chosen_id": "...", "rejected_id": "...", "chosen_responder": "a", ...}

The last line on a pair counts; `null` takes a verdict back. A line carries what it was about, so that the file says by
itself how far people agree with the judge. A last line that is half written is left alone and completed.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from ...base.errors import PrefmillError
from ...base.files import reason_of
from ...base.locks import exclusive, holder_of
from .human_agreement import JudgedPair, agreement_with_judge
from .keys import keys_of


class PairVerdict(BaseModel):
    """One line of the file. `margin` is the judge's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pair_id: str
    verdict: Literal["agree", "disagree"] | None
    chosen_id: str | None = None
    rejected_id: str | None = None
    chosen_responder: str | None = None
    rejected_responder: str | None = None
    margin: float | None = None
    time: str = ""


class VerdictFile:
    """The verdicts in a file, which is held by one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[int] = []
        """Lines that hold no verdict, counted from 1: they are left as they are."""
        self._verdicts: dict[str, PairVerdict] = {}
        self._lock = threading.Lock()
        for number, line in _lines(path):
            try:
                self._take(PairVerdict.model_validate_json(line))
            except ValidationError:
                self.damaged.append(number)

    @classmethod
    @contextlib.contextmanager
    def writing(cls, path: Path) -> Iterator[Self]:
        """Open or create a file of verdicts for writing. Raises PrefmillError where that cannot be done."""
        busy = PrefmillError(f"{path} is in use by {holder_of(_lock_of(path))}", "give another file with --verdicts")
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(exclusive(_lock_of(path), busy))
                path.open("ab").close()
            except OSError as error:
                message = f"cannot write to {path}: {reason_of(error)}"
                raise PrefmillError(message, "give another file with --verdicts") from error
            held.callback(_lock_of(path).unlink, missing_ok=True)
            yield cls(path)

    def of(self, pair_id: str) -> str | None:
        """Return what was said of a pair: agree, disagree, or None."""
        found = self._verdicts.get(pair_id)
        return found.verdict if found else None

    def by_key(self) -> dict[int, str]:
        """Return the verdicts by the pairs' keys."""
        told = dict(self._verdicts)
        keys = keys_of(pa.array(list(told), pa.string())).tolist()
        return dict(zip(keys, (str(one.verdict) for one in told.values()), strict=True))

    def add(self, verdict: PairVerdict) -> None:
        """Write a verdict down, on the disk when this returns. Raises PrefmillError when the file system refuses."""
        line = verdict.model_copy(update={"time": datetime.now(UTC).isoformat(timespec="seconds")}).model_dump_json()
        with self._lock:
            try:
                with self.path.open("r+b") as file:
                    if file.seek(0, os.SEEK_END):
                        file.seek(-1, os.SEEK_END)
                        line = line if file.read(1) == b"\n" else "\n" + line
                    file.write(line.encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise PrefmillError(f"cannot write to {self.path}: {reason_of(error)}", "make room for it") from error
            self._take(verdict)

    def _take(self, verdict: PairVerdict) -> None:
        if verdict.verdict is None:
            self._verdicts.pop(verdict.pair_id, None)
        else:
            self._verdicts[verdict.pair_id] = verdict

    def agreement(self) -> dict[str, Any]:
        """Return how far the verdicts agree with the judge."""
        return agreement_with_judge(
            JudgedPair(
                told.chosen_id or f"{told.pair_id}-chosen",
                told.rejected_id or f"{told.pair_id}-rejected",
                told.verdict == "agree",
                told.chosen_responder,
                told.rejected_responder,
            )
            for told in list(self._verdicts.values())
        )


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise PrefmillError(f"cannot read {path}: {reason_of(error)}", "give another file with --verdicts") from error


def verdict_of(pair: dict[str, Any], verdict: str | None, responders: dict[str, str]) -> PairVerdict:
    """Return a verdict on a pair as the page shows it; `responders`: who gave each answer.

    Raises PrefmillError for a verdict that is none.
    """
    fields = {key: pair[key] for key in ("chosen_id", "rejected_id", "margin")}
    names = {f"{side}_responder": responders.get(pair[f"{side}_id"]) for side in ("chosen", "rejected")}
    try:
        return PairVerdict.model_validate({"pair_id": pair["id"], "verdict": verdict, **fields, **names})
    except ValidationError as error:
        raise PrefmillError(f"a verdict of {json.dumps(verdict)}", "say agree, disagree or null") from error
