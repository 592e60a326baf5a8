"""What a run looks like while it runs: one bar per stage with rate and time left, on stderr.

Where stderr is no terminal (a log file, a job's output) the same is printed as plain lines, every ten seconds.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from ..base.progress import Progress
from ..base.text import printable
from .pace import Pace

LINE_SECONDS = 10.0
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}  # paths stay whole
INTERRUPTED = 130  # the exit code shells use for Ctrl-C


@contextlib.contextmanager
def watched(continue_with: str | None = None) -> Iterator[ConsoleProgress]:
    """Show progress on stderr; on Ctrl-C say that the work is kept and what continues it, and exit.

    By default that is the very command that was given.
    """
    console = Console(stderr=True)
    try:
        with ConsoleProgress(console) as progress:
            yield progress
    except KeyboardInterrupt:
        command = continue_with or shlex.join(["prefmill", *sys.argv[1:]])
        console.print(f"\nstopped; all finished work is kept. Continue with: {printable(command)}", **PLAIN)
        sys.exit(INTERRUPTED)


class ConsoleProgress(Progress):
    """Draws the progress of a run; give it to the executor, the importer and the trainer."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.bars = Bars(
            TextColumn("{task.description:<22}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TextColumn("{task.fields[left]}", style="progress.remaining", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self.paces: dict[str, Pace] = {}
        self.rows: dict[str, TaskID] = {}
        self.printed: dict[str, float] = {}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def begin(self, name: str, total: int, done: int = 0, unit: str = "rows") -> None:
        """Start the bar of one piece of work, `done` of whose `total` steps are finished already."""
        now = self.clock()
        under_way = [pace for pace in self.paces.values() if not pace.over]
        # what begins while something else is under way takes its inputs from there, and ends with it
        self.paces[name] = Pace(total, done, unit, now, leader=under_way[-1] if under_way else None)
        self.rows[name] = self.bars.add_task(printable(name), total=total, completed=done, rate="", left="")
        self.printed[name] = now

    def step(self, name: str, steps: int, note: str = "") -> None:
        """Move a bar on by so many steps."""
        pace, now = self.paces[name], self.clock()
        pace.step(steps, now)
        rate = f"{pace.rate(now):.1f} {pace.unit}/s{note}"
        left = pace.left(now)
        self.bars.update(self.rows[name], advance=steps, rate=rate, left=f"{_clock(left)} left")
        if not self.console.is_terminal and now - self.printed[name] >= LINE_SECONDS:
            self.printed[name] = now
            self.line(f"{name}: {pace.done}/{pace.total}, {rate}, {left:.0f} s left")

    def end(self, name: str, text: str) -> None:
        """Fill a bar and say what came out."""
        pace = self.paces[name]
        seconds = f" in {self.clock() - pace.began:.1f} s" if pace.fresh else ", found complete"
        pace.over = True
        self.bars.update(self.rows[name], completed=pace.total, left="")
        self.line(f"{name}: {text}{seconds}")

    def line(self, text: str) -> None:
        """Print one line above the bars."""
        self.console.print(printable(text), **PLAIN)

    def notice(self, text: str) -> None:
        """Something to read: a fallback, a shard set aside."""
        self.console.print(f"note: {printable(text)}", style="yellow", **PLAIN)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
