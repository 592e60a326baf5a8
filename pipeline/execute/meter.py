"""Books the time for which the local executor holds a device: loading, work, and all that lies between as idle.

It holds it from the first model that is made ready to the end of the stage. Everything it does with the device happens
in one thread, one piece after the other, so what was neither loading nor work was waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..budget import Purse
from ..ledger import DeviceLedger, DeviceTime

Result = TypeVar("Result")
_IDLE = 1.0  # seconds that are booked as they come, so that a kill loses no more
_NOTHING = 0.001


@dataclass
class Clock:
    """What seconds are: those of the wall. A measurement on a shared machine reads time.process_time."""

    read: Callable[[], float] = time.perf_counter


CLOCK = Clock()


class DeviceMeter:
    """The time of one stage, and of the one that follows in its memory."""

    def __init__(self, ledger: DeviceLedger, purse: Purse | None = None) -> None:
        self.ledger, self.purse = ledger, purse
        self.since = CLOCK.read()
        self._busy = self._idle = self._booked = 0.0

    @property
    def held(self) -> float:
        """Seconds since the device was taken."""
        return CLOCK.read() - self.since

    def measure(self, action: Callable[[], Result]) -> tuple[Result, float]:
        """Return what an action returns, and the device seconds that it took."""
        began = CLOCK.read()
        result = action()
        seconds = CLOCK.read() - began
        self._busy += seconds
        return result, seconds

    def require(self, stage: str, seconds: float) -> None:
        """Raise BudgetSpent where so many more seconds do not fit the budget."""
        if self.purse is not None:
            self.purse.require(stage, seconds, pending=self.held - self._booked)

    def book(self, piece: DeviceTime) -> None:
        """Put measured seconds into the ledger."""
        self.ledger.add(piece)
        self._booked += piece.seconds

    def book_idle(self, stage: str, device: str, *, at_end: bool = False) -> None:
        """Put the time that was neither loading nor work into the ledger, where it is worth a line."""
        idle = self.held - self._busy - self._idle
        if idle >= (_NOTHING if at_end else _IDLE):
            now = max(0.0, round(time.time() - idle, 3))
            self.book(DeviceTime(stage=stage, what="idle", seconds=round(idle, 3), began=now, device=device))
            self._idle += idle
