"""Who wants to know how work gets on: the interface that runs, trainings and measurements report to.

Kept free of screens, so that a program that drives the engine can count, log or draw as it likes; the command line
draws bars (`cli/progress.py`).
"""

from __future__ import annotations


class Progress:
    """Override what you need; this one is silent. Several pieces of work may be under way at once, each by its name."""

    def begin(self, name: str, total: int, done: int = 0, unit: str = "rows") -> None:
        """A piece of work begins; `done` of its `total` steps were found finished."""

    def step(self, name: str, steps: int, note: str = "") -> None:
        """So many more steps are through; `note` is for people."""

    def end(self, name: str, text: str) -> None:
        """A piece of work is complete; `text` says what came out of it."""

    def line(self, text: str) -> None:
        """Something that happened."""

    def notice(self, text: str) -> None:
        """Something the user should read: a fallback, a shard set aside."""
