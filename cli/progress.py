"""What a run looks like while it runs: one bar per stage with rate and time left, on stderr.

Where stderr is no terminal (a log file, a job's output) the same is printed as plain lines, every ten seconds.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ..base.progress import Progress

LINE_SECONDS = 10.0
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}  # paths stay whole
INTERRUPTED = 130  # the exit code shells use for Ctrl-C


@contextlib.contextmanager
def watched(continue_with: str) -> Iterator[ConsoleProgress]:
    """Show progress on stderr; on Ctrl-C say that the work is kept and what continues it, and exit."""
    console = Console(stderr=True)
    try:
        with ConsoleProgress(console) as progress:
            yield progress
    except KeyboardInterrupt:
        console.print(f"\nstopped; all finished work is kept. Continue with: {continue_with}", **PLAIN)
        sys.exit(INTERRUPTED)


@dataclass
class _Work:
    """A piece of work that has a bar: several may be under way at once."""

    bar: TaskID
    total: int
    done: int
    unit: str
    fresh: int = 0  # done since it began, which is what a rate is about
    began: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)


class ConsoleProgress(Progress):
    """Draws the progress of a run; give it to the executor, the importer and the trainer."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Bars(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self.work: dict[str, _Work] = {}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def begin(self, name: str, total: int, done: int = 0, unit: str = "rows") -> None:
        """Start the bar of one piece of work, `done` of whose `total` steps are finished already."""
        self.work[name] = _Work(self.bars.add_task(name, total=total, completed=done, rate=""), total, done, unit)

    def step(self, name: str, steps: int, note: str = "") -> None:
        """Move a bar on by so many steps."""
        work, now = self.work[name], time.monotonic()
        work.fresh, work.done = work.fresh + steps, work.done + steps
        rate = f"{work.fresh / max(now - work.began, 1e-9):.1f} {work.unit}/s{note}"
        self.bars.update(work.bar, advance=steps, rate=rate)
        if not self.console.is_terminal and now - work.printed >= LINE_SECONDS:
            work.printed = now
            left = (work.total - work.done) * (now - work.began) / max(work.fresh, 1)
            self.line(f"{name}: {work.done}/{work.total}, {rate}, {left:.0f} s left")

    def end(self, name: str, text: str) -> None:
        """Fill a bar and say what came out."""
        work = self.work[name]
        seconds = f" in {time.monotonic() - work.began:.1f} s" if work.fresh else ", found complete"
        self.bars.update(work.bar, completed=work.total)
        self.line(f"{name}: {text}{seconds}")

    def line(self, text: str) -> None:
        """Print one line above the bars."""
        self.console.print(text, **PLAIN)

    def notice(self, text: str) -> None:
        """Something to read: a fallback, a shard set aside."""
        self.console.print(f"note: {text}", style="yellow", **PLAIN)
