"""How fast a piece of work goes, and how long the rest of it takes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW_SECONDS = 60.0


@dataclass
class Pace:
    """The steps of a piece of work, timed on the clock of whoever calls.

    A rate is that of the last minute: the first batch waits for compilers and caches, and a guess made from it would
    stay wrong for hours. Work that follows other work gets its inputs in bursts, whenever that one commits: at the
    first step of a burst the others have not been counted, so its own steps say nothing. It is in step with its leader.
    """

    total: int
    done: int
    unit: str
    began: float
    leader: Pace | None = None
    over: bool = False
    fresh: int = 0
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def step(self, steps: int, now: float) -> None:
        """Count steps that are through."""
        if not self._recent:
            self._recent.append((self.began, self.done))
        self.done, self.fresh = self.done + steps, self.fresh + steps
        self.over = self.done >= self.total
        self._recent.append((now, self.done))
        while len(self._recent) > 2 and self._recent[1][0] <= now - WINDOW_SECONDS:
            self._recent.popleft()

    def rate(self, now: float) -> float:
        """Return the steps per second."""
        if self._following and self.leader is not None:
            own, other = self.total - self._found, self.leader.total - self.leader._found
            return self.leader.rate(now) * own / max(other, 1)
        if not self._recent:
            return 0.0
        since, before = self._recent[0]
        return (self.done - before) / max(now - since, 1e-9)

    def left(self, now: float) -> float:
        """Return the seconds that the rest takes; 0 where no step has shown how long one takes."""
        rate = self.rate(now)
        return (self.total - self.done) / rate if rate else 0.0

    @property
    def _following(self) -> bool:
        return self.leader is not None and not self.leader.over

    @property
    def _found(self) -> int:
        return self.done - self.fresh
