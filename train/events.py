"""How a training tells of its progress: one JSON line a step, written by the first worker, followed by the launcher.

A file is all that connects them. So a progress bar, a second terminal and a later look see the same numbers, and a
worker that dies takes none of them along.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..base.errors import PrefmillError
from ..base.files import write_text

METRICS = "metrics.jsonl"
LOG = "train.log"
STATUS = ".status"
"""One sentence on what the first worker is doing before its first step."""
FAILURES = ".failure-{rank}.json"
"""Message and fix of the error that ended a worker."""
LAUNCHER_LOCK = ".launcher"
"""Locked while the launcher lives: workers end when it is free."""
_NUMBERS = TypeAdapter(dict[str, int | float])


@dataclass(frozen=True)
class TrainingEvent:
    """Something to show: a notice in words, or a step with its numbers (the keys of a line of metrics.jsonl)."""

    kind: Literal["notice", "step", "finished"]
    message: str = ""
    step: int = 0
    steps: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


class TrainingFailure(BaseModel):
    """What a worker says of the error that ended it; `time` is when, in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message: str
    fix: str
    time: float


def say(output: Path, text: str) -> None:
    """Tell the user through the launcher what is going on; the first process alone does."""
    if os.environ.get("RANK", "0") == "0":
        write_text(output / STATUS, text)


def write_failure(output: Path, rank: int, error: PrefmillError) -> None:
    """Leave an error where the launcher finds it."""
    failure = TrainingFailure(message=error.message, fix=error.fix, time=time.time())
    write_text(output / FAILURES.format(rank=rank), failure.model_dump_json())


def read_failure(path: Path) -> TrainingFailure | None:
    """Return what a worker left, or None where it could not write it whole."""
    try:
        return TrainingFailure.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


class MetricsFile:
    """metrics.jsonl: step, steps, loss, rewards/..., logps/..., learning_rate, seconds, pairs_per_second, ..."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def append(self, line: Mapping[str, float]) -> None:
        """Add a line with one write, so that a reader never meets a part of it for long."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))

    def read(self) -> list[dict[str, float]]:
        """Return all whole lines. Raises PrefmillError for one that is no step's numbers."""
        if not self.path.exists():
            return []
        return [self._numbers(line) for line in _whole_lines(self.path.read_bytes())]

    def forget_after(self, step: int) -> None:
        """Drop the lines of later steps, which a training that continues at `step` makes again."""
        kept = [line for line in self.read() if line["step"] <= step]
        write_text(self.path, "".join(map(_line, kept)))

    def skip(self) -> None:
        """Have `follow` begin after the lines that are there now."""
        self._offset = self.path.stat().st_size if self.path.exists() else 0

    def follow(self) -> Iterator[TrainingEvent]:
        """Yield the lines that were added since the last call, or since `skip`."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset, os.SEEK_SET)
            for line in _whole_lines(file.read()):
                self._offset += len(line) + 1
                metrics = self._numbers(line)
                yield TrainingEvent("step", step=int(metrics["step"]), steps=int(metrics["steps"]), metrics=metrics)

    def _numbers(self, line: bytes) -> dict[str, float]:
        try:
            numbers = _NUMBERS.validate_json(line)
        except ValidationError:
            numbers = {}
        counts = (numbers.get("step"), numbers.get("steps"))
        if all(isinstance(count, int) for count in counts) and {"loss", "seconds"} <= numbers.keys():
            return numbers
        shown = line[:80].decode(errors="backslashreplace")
        raise PrefmillError(
            f"{self.path} is damaged: {shown!r} is no step with its numbers",
            f"restore it from a copy, or delete {self.path.parent} to train from the beginning",
        )


def _line(numbers: Mapping[str, float]) -> str:
    return json.dumps(dict(numbers), separators=(",", ":")) + "\n"


def _whole_lines(data: bytes) -> list[bytes]:
    return data[: data.rfind(b"\n") + 1].splitlines()
