"""How a training tells of its progress: one JSON line a step, written by the first worker, followed by the launcher.

A file is all that connects them. So a progress bar, a second terminal and a later look see the same numbers, and a
worker that dies takes none of them along.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

METRICS = "metrics.jsonl"
LOG = "train.log"
STATUS = ".status"
"""One sentence on what the first worker is doing before its first step."""
FAILURES = ".failure-{rank}.json"
"""Message and fix of the error that ended a worker."""
LAUNCHER_LOCK = ".launcher"
"""Locked while the launcher lives: workers end when it is free."""


@dataclass(frozen=True)
class TrainingEvent:
    """Something to show: a notice in words, or a step with its numbers (the keys of a line of metrics.jsonl)."""

    kind: Literal["notice", "step", "finished"]
    message: str = ""
    step: int = 0
    steps: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end at the pace of this step; None where there is no pace."""
        pace = self.metrics.get("seconds_per_step")
        return None if pace is None else pace * (self.steps - self.step)


class MetricsFile:
    """metrics.jsonl: step, steps, loss, rewards/..., logps/..., learning_rate, seconds, pairs_per_second, ..."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line with one write, so that a reader never meets a part of it for long."""
        text = json.dumps(dict(line), separators=(",", ":")) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)

    def read(self) -> list[dict[str, Any]]:
        """Return all whole lines."""
        return [json.loads(line) for line in _whole_lines(self.path.read_bytes())] if self.path.exists() else []

    def forget_after(self, step: int) -> None:
        """Drop the lines of later steps, which a training that continues at `step` makes again."""
        kept = [line for line in self.read() if line["step"] <= step]
        temporary = self.path.with_name(f".tmp-{self.path.name}")
        temporary.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.path)

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
                metrics = json.loads(line)
                yield TrainingEvent("step", step=metrics["step"], steps=metrics["steps"], metrics=metrics)


def _whole_lines(data: bytes) -> list[bytes]:
    return data[: data.rfind(b"\n") + 1].splitlines()
