"""A stage whose model sleeps, and that kills, hangs or fails its process where it is told to; made again by workers."""

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prefmill.pipeline.records import Reject, Score
from prefmill.pipeline.sources import ListSource
from prefmill.pipeline.stage import Stage, Task

NAME = "scores"


@dataclass(frozen=True)
class Trouble:
    """What befalls the worker that meets input `at`: kill, hang, fail or load; `once`: the first one alone."""

    what: str = ""
    at: int = -1
    once: bool = False


class Sleeping(Stage[int, Score]):
    """Scores that betray their batch, two rows an input, every seventh rejected; `seconds` for a batch."""

    def __init__(self, folder, seconds, trouble):
        self.folder, self.seconds, self.trouble = folder, seconds, trouble
        if trouble.what == "load" and self._befalls():
            os.kill(os.getpid(), signal.SIGKILL)

    def _befalls(self):
        mark = self.folder / "trouble-was-here"
        if self.trouble.once and mark.exists():
            return False
        mark.touch()
        return True

    def compute(self, prepared):
        time.sleep(self.seconds)
        with (self.folder / "computed").open("a") as file:
            file.write(f"{prepared[0]}\n")
        if self.trouble.at in prepared and self._befalls():
            if self.trouble.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble.what == "hang":
                time.sleep(1000)
            if self.trouble.what == "fail":
                raise ValueError("a defect of the stage")
        return list(prepared)

    def finish(self, computed):
        rows = []
        for number in computed:
            if number % 7 == 3:
                rows.append(Reject(f"input-{number}", NAME, "seventh"))
                continue
            rows += [Score(f"{number}-{part}", "sleeping", sum(computed) / 3) for part in (0, 1)]
        return rows


def sleeping_task(folder: Path, count=40, batch=4, seconds=0.0, trouble=Trouble(), seen=None) -> Task:
    """`seen`: how many of the inputs a worker sees."""
    names = [f"input-{number}" for number in range(count)]
    return Task(
        NAME,
        Score,
        lambda: ListSource(range(count), names),
        lambda: Sleeping(folder, seconds, trouble),
        batch,
        {"seconds": seconds},
        checkpoints=("sleeping",),
        again=partial(sleeping_task, folder, seen or count, batch, seconds, trouble),
    )
