"""How many calls are in flight, and how long one may take: both follow what the server does.

In flight: halved where a quarter of the last calls was turned away as too many, at most once per deadline, and raised
by one for every round of answers. A stray 429 says nothing of the load, and costs nothing: cutting at each one ends at
a fifth of the throughput.

The deadline: half again the longest of the last answers, doubled at each further attempt, so that a server that hangs
costs an answer and a half and not two minutes. It follows for calls that are on their way: the first answers free those
that hang.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_LEAST_ANSWERS = 16  # before a deadline is known
_SHORTEST = 0.25  # seconds: below it, a busy machine would look like a server that hangs
_WINDOW = 64  # calls that tell whether the server is crowded


@dataclass(eq=False)
class Call:
    """A call in flight: its time-out, when it began, and which attempt of its request it is, from 0."""

    deadline: asyncio.Timeout
    began: float
    attempt: int


class Limiter:
    """Slots for calls; `most` in flight, and `longest` seconds for one."""

    def __init__(self, most: int, longest: float) -> None:
        self.most, self.longest, self.limit = most, longest, float(most)
        self.calls: set[Call] = set()
        self.waiting = 0
        self.patience = longest
        """Seconds that a first attempt may take."""
        self._crowded: deque[bool] = deque(maxlen=_WINDOW)
        self._seconds: deque[float] = deque(maxlen=128)
        self._paused_until = self._next_cut = 0.0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def slot(self, attempt: int) -> AsyncIterator[Call]:
        """Wait for a slot and hold it for the block; raises TimeoutError where the block takes too long."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.calls) + self.waiting < int(self.limit))
            self.waiting += 1
        call = None
        try:
            while (pause := self._paused_until - _now()) > 0:
                await asyncio.sleep(pause)
            async with asyncio.timeout(self.allowance(attempt)) as deadline:
                call = Call(deadline, _now(), attempt)
                self.waiting -= 1
                self.calls.add(call)
                yield call
        finally:
            if call is None:
                self.waiting -= 1
            else:
                self.calls.discard(call)
            async with self._changed:
                self._changed.notify(2)  # the limit may have been raised by one

    def allowance(self, attempt: int) -> float:
        """Return the seconds that an attempt may take."""
        return min(self.longest, self.patience * 2**attempt)

    def answered(self, seconds: float) -> None:
        """Take note of an answer and how long it took."""
        self._crowded.append(False)
        self._seconds.append(seconds)
        if self.limit < self.most:
            self.limit = min(self.most, self.limit + 1 / self.limit)
        if len(self._seconds) < _LEAST_ANSWERS:
            return
        patience = min(self.longest, max(_SHORTEST, 1.5 * max(self._seconds)))
        if patience != self.patience:
            self.patience = patience
            for call in self.calls:
                if not call.deadline.expired():
                    call.deadline.reschedule(call.began + self.allowance(call.attempt))

    def turned_away(self, wait: float) -> None:
        """Take note that a call was one too many; the server asks for a pause of `wait` seconds, or for none."""
        self._crowded.append(True)
        if sum(self._crowded) * 4 <= max(len(self._crowded), _WINDOW // 2) or _now() < self._next_cut:
            return
        self.limit = max(1.0, self.limit / 2)
        self._paused_until = _now() + wait
        self._next_cut = self._paused_until + min(self.patience, 10.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
