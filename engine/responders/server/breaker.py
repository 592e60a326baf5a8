"""When to stop asking: a server that is down must not turn a whole run into rejects."""

from __future__ import annotations

from ....base.errors import PrefmillError
from ..interface import Failure

STREAK = 16
"""Requests in a row without an answer, after which nothing but the server can be the reason."""


class Breaker:
    """Counts requests without an answer. `answers` tells of answers from before, which show that the server can."""

    def __init__(self, url: str, answers: int = 0) -> None:
        self.url, self.answers = url, answers
        self.streak = 0

    def answered(self) -> None:
        """A request got its answer."""
        self.answers, self.streak = self.answers + 1, 0

    def given_up(self, failure: Failure) -> None:
        """A request got none after all attempts. Raises PrefmillError after too many of these in a row."""
        self.streak += 1
        if self.streak >= STREAK:
            self._stop(failure)

    def refused(self, failure: Failure) -> None:
        """A request was refused for what it is. Raises PrefmillError where that is all that ever happened."""
        if not self.answers:
            self.given_up(failure)

    def check_reached(self, replies: int, unreached: int, last: Failure) -> None:
        """Raise PrefmillError where not one of some requests reached the server."""
        if replies and replies == unreached:
            self._stop(last)

    def _stop(self, failure: Failure) -> None:
        many = "the last request" if self.streak <= 1 else f"{self.streak} requests in a row"
        raise PrefmillError(
            f"{self.url} gave no answer to {many}; the last time: {failure.reason} {failure.detail}".strip() + ".",
            "see to the server, then give the same command again: what was answered is kept",
        )
