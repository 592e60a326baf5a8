"""A stage whose model sleeps, and that kills, hangs or fails its process where it is told to: for trials of executors.

Workers import it like any stage, so a trial of theirs needs no model and no GPU.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ..pipeline.records import Reject, Score
from ..pipeline.sources import ListSource
from ..pipeline.stage import Stage, Task

NAME = "scores"
BEGUN = "begun"
"""A file in the run's folder: a line for every batch that was begun, its first input and the process."""


@dataclass(frozen=True)
class Trouble:
    """What befalls the worker that meets input `at`, or (load) that loads the stage; `once`: the first one alone.

    full: a disk is, vanish: the run's folder is elsewhere from then on.
    """

    what: Literal["", "kill", "hang", "fail", "load", "full", "vanish"] = ""
    at: int = -1
    once: bool = False


class SleepingStage(Stage[int, Score]):
    """Scores that betray their batch as floating point does, two rows an input, every seventh input rejected."""

    def __init__(self, folder: Path, seconds: float, trouble: Trouble) -> None:
        """`seconds` of sleep for a batch."""
        self.folder, self.seconds, self.trouble = folder, seconds, trouble
        if trouble.what == "load" and self._befalls():
            os.kill(os.getpid(), signal.SIGKILL)

    def _befalls(self) -> bool:
        mark = self.folder / "trouble-was-here"
        if self.trouble.once and mark.exists():
            return False
        mark.touch()
        return True

    def compute(self, prepared: Sequence[int]) -> Sequence[int]:
        """Sleep, and meet trouble."""
        with (self.folder / BEGUN).open("a") as file:
            file.write(f"{prepared[0]} {os.getpid()}\n")
        time.sleep(self.seconds)
        if self.trouble.at in prepared and self._befalls():
            if self.trouble.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble.what == "hang":
                time.sleep(1000)
            if self.trouble.what == "fail":
                raise ValueError("a defect of the stage")
            if self.trouble.what == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/cache")
            if self.trouble.what == "vanish":
                self.folder.rename(self.folder.with_name("elsewhere"))
        return prepared

    def finish(self, computed: Sequence[int]) -> list[Score | Reject]:
        """Make the rows."""
        rows: list[Score | Reject] = []
        for number in computed:
            if number % 7 == 3:
                rows.append(Reject(f"input-{number}", NAME, "seventh"))
                continue
            rows += [Score(f"{number}-{part}", "sleeping", sum(computed) / 3) for part in (0, 1)]
        return rows


def sleeping_task(
    folder: Path,
    count: int = 40,
    batch: int = 4,
    seconds: float = 0.0,
    trouble: Trouble | None = None,
    seen: int | None = None,
) -> Task:
    """Return the task of `count` inputs in a run's folder; `seen`: how many of them a worker sees."""
    names = [f"input-{number}" for number in range(count)]
    trouble = trouble or Trouble()
    return Task(
        NAME,
        Score,
        lambda: ListSource(range(count), names),
        lambda: SleepingStage(folder, seconds, trouble),
        batch,
        {},
        checkpoints=("sleeping",),
        again=partial(sleeping_task, folder, seen or count, batch, seconds, trouble),
    )


def begun_in(folder: Path) -> list[int]:
    """Return the first input of every batch that was begun in a run's folder, in that order."""
    return [start for start, _ in begun_by(folder)]


def begun_by(folder: Path) -> list[tuple[int, int]]:
    """Return them with the processes that did it."""
    path = folder / BEGUN
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(int(line[0]), int(line[1])) for line in lines if len(line) == 2]
