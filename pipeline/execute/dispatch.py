"""Who computes what: units are cut, handed out, tried again, and given up, whatever the workers do.

- A unit's size follows the time that batches take, and shrinks towards the end, so that workers end together.
- A deadline begins when a unit is handed to a worker that has loaded its model, however long that took.
- A unit whose worker died or was late is tried again after all others, the last time batch by batch: so what kills
  workers is found, and everything else is made.
- What a worker says counts only while it is the unit's worker. One that was given up may still be writing; what it
  staged is nobody's.
- Workers that die while loading, and a stage whose every unit kills its worker, are errors and no endless loop.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...base.errors import PrefmillError
from .crew import Crew, Died, Event, Failed, Made, Ready, StageOrder, Unit
from .plan import Batch
from .work import ExecutorConfig

LISTEN = 0.5
"""Seconds between looks at the clock."""
LATE = 10.0
"""A unit is late after so many times what the slowest batches took; never before SHORTEST seconds."""
SHORTEST = 60.0
UNMEASURED = 3600.0
"""Seconds after which a unit is late where no unit has come back yet."""
SLOW_START = 180.0
"""Seconds without a worker that is ready after which that is said: a busy cluster makes workers wait in silence."""
GROWTH = 4
"""How many times larger a unit may be than the one before it."""


class Try(NamedTuple):
    """Batches to be made as a unit, and how often that was tried."""

    batches: Sequence[Batch]
    tries: int = 0


@dataclass
class Hand:
    """A worker as the dispatcher knows it; `report` is there from when it was ready. Times are the clock's."""

    since: float
    ready: Ready | None = None
    ready_at: float = 0.0
    unit: Unit | None = None
    tried: Try = field(default_factory=lambda: Try(()))
    worked: float = 0.0


@dataclass(frozen=True)
class Result:
    """A unit made by a worker that the dispatcher believes."""

    worker: str
    hand: Hand
    made: Made


class DispatchListener:
    """Who wants to know what becomes of workers and units, and has to pay for them."""

    def afford(self, seconds: float, pending: float) -> PrefmillError | None:
        """Return why a unit of so many seconds is not to be begun; `pending` seconds were taken and not yet told."""
        return None

    def loaded(self, hand: Hand, seconds: float) -> None:
        """A worker is ready."""

    def waits(self, seconds: float) -> None:
        """No worker is ready after so many seconds."""

    def lost(self, hand: Hand, seconds: float, reason: str) -> None:
        """A worker is given up: after so many seconds of loading, or of a unit."""

    def idled(self, hand: Hand, seconds: float) -> None:
        """A worker is let go of, and waited for so long since it was ready."""


class Dispatcher:
    """Brings batches through a crew, once: `results` yields what came of them, in any order."""

    def __init__(
        self,
        crew: Crew,
        order: StageOrder,
        stage: str,
        work: Callable[[int, int], str],
        config: ExecutorConfig,
        listener: DispatchListener,
        clock: Callable[[], float] = time.monotonic,
        seconds_per_batch: float = 0.0,
    ) -> None:
        """`stage` is its name; `work` returns the digest of a range's inputs; a batch took so many seconds before."""
        self.crew, self.order, self.stage, self.work = crew, order, stage, work
        self.config, self.listener, self.clock = config, listener, clock
        self.waiting: deque[Batch] = deque()
        self.again: deque[Try] = deque()
        self.hands: dict[str, Hand] = {}
        self.given_up: list[tuple[Try, str]] = []
        self.seconds_per_batch, self.bytes_per_batch, self.slowest = seconds_per_batch, 0.0, 0.0
        self.size = 1
        self.made = self.lost_units = self.lost_loading = 0
        self.reason, self.is_slow = "", False
        self.ending: PrefmillError | None = None
        """Why nothing more is handed out: raised when what was handed out has come back."""

    def results(self, batches: Sequence[Batch]) -> Generator[Result, None, None]:
        """Yield a result for every unit that could be made.

        Raises PrefmillError at the end for those that could not be made. Where a worker says what a user has to
        correct, where the next unit cannot be paid for, where no worker lives to load the stage, or where no unit at
        all can be made, it is raised when the units that are under way have come back.
        """
        self.waiting.extend(batches)
        try:
            while self._has_work() or any(hand.unit for hand in self.hands.values()):
                if self._has_work():
                    self._hire()
                    self._hand_out()
                for worker, event in self.crew.collect(LISTEN):
                    result = self._hear(worker, event)
                    if result is not None:
                        yield result
                self._give_up_late_ones()
                self._say_that_none_is_ready()
        finally:
            with contextlib.ExitStack() as leaving:  # each of them, also where the ledger's disk refuses
                for worker in reversed(list(self.hands)):  # called last first
                    leaving.callback(self._let_go, worker)
        if self.ending:
            raise self.ending
        if self.given_up:
            raise self._not_made()

    def _has_work(self) -> bool:
        return bool(self.waiting or self.again) and self.ending is None

    def _hire(self) -> None:
        if self.lost_loading >= self.config.attempts:
            if not any(hand.ready for hand in self.hands.values()):
                self.ending = PrefmillError(
                    f"{self.lost_loading} workers died one after another while they loaded {self.stage}: {self.reason}",
                    "give it more memory, fewer workers (--set executor.workers=1), or a smaller model",
                )
            return
        under_way = sum(hand.unit is not None for hand in self.hands.values())
        wanted = min(self.crew.size(), len(self.waiting) + len(self.again) + under_way)
        while len(self.hands) < wanted:
            began = self.clock()
            self.hands[self.crew.start(self.order)] = Hand(began)

    def _hand_out(self) -> None:
        for worker, hand in self.hands.items():
            if hand.ready is None or hand.unit is not None:
                continue
            if not self._has_work():
                return
            tried = Try(self._next_batches()) if self.waiting else self.again.popleft()
            self.ending = self.listener.afford(self.seconds_per_batch * len(tried.batches), self._pending())
            if self.ending:
                return
            start, stop = tried.batches[0].start, tried.batches[-1].stop
            hand.unit, hand.tried = Unit(start, stop, self.work(start, stop)), Try(tried.batches, tried.tries + 1)
            hand.since = self.clock()
            self.crew.submit(worker, hand.unit)

    def _pending(self) -> float:
        """Return the seconds of workers that the listener was not told of, and what units under way still take."""
        now, seconds = self.clock(), 0.0
        for hand in self.hands.values():
            seconds += now - hand.since if hand.ready is None else now - hand.ready_at - hand.worked
            if hand.unit is not None:
                seconds += max(0.0, self.seconds_per_batch * len(hand.tried.batches) - (now - hand.since))
        return seconds

    def _next_batches(self) -> list[Batch]:
        size = 1
        if self.made:
            share = len(self.waiting) / (2 * max(1, len(self.hands)))
            by_time = self.config.unit_seconds / max(self.seconds_per_batch, 1e-6)
            by_bytes = self.config.commit_bytes / max(self.bytes_per_batch, 1.0)
            size = max(1, int(min(share, by_time, by_bytes, self.size * GROWTH)))
            self.size = size
        batches = [self.waiting.popleft()]
        while self.waiting and len(batches) < size and self.waiting[0].start == batches[-1].stop:
            batches.append(self.waiting.popleft())
        return batches

    def _hear(self, worker: str, event: Event) -> Result | None:
        hand = self.hands.get(worker)
        if hand is None:  # given up before
            return None
        match event:
            case Failed(message, fix, is_known=True):
                self.ending = self.ending or PrefmillError(message, fix)
                hand.unit = None
                self._lose(worker, "")
            case Died(reason) | Failed(message=reason):
                self._lose(worker, reason)
            case Ready():
                hand.ready, hand.ready_at, self.lost_loading = event, self.clock(), 0
                self.listener.loaded(hand, hand.ready_at - hand.since)
            case Made():
                return self._accept(worker, hand, event)
        return None

    def _accept(self, worker: str, hand: Hand, made: Made) -> Result | None:
        unit = hand.unit
        if unit is None or (unit.start, unit.stop) != (made.start, made.stop):
            return None
        count = len(hand.tried.batches)
        self.seconds_per_batch = (self.clock() - hand.since) / count
        self.slowest = max(self.slowest, self.seconds_per_batch)
        self.bytes_per_batch = max(self.bytes_per_batch, made.size / count)
        self.made += 1
        hand.unit, hand.worked = None, hand.worked + made.seconds
        return Result(worker, hand, made)

    def _give_up_late_ones(self) -> None:
        now = self.clock()
        for worker, hand in list(self.hands.items()):
            if hand.unit is not None and now - hand.since > (limit := self._limit(hand)):
                self._lose(worker, f"it was not done after {limit:.0f} s")

    def _say_that_none_is_ready(self) -> None:
        waited = self.clock() - min((hand.since for hand in self.hands.values()), default=math.inf)
        if waited > SLOW_START and not self.is_slow and not self.made and not any(h.ready for h in self.hands.values()):
            self.is_slow = True
            self.listener.waits(waited)

    def _limit(self, hand: Hand) -> float:
        if self.config.slowest != "auto":
            return self.config.slowest
        usual = self.slowest * len(hand.tried.batches) if self.made else UNMEASURED / LATE
        return max(SHORTEST, LATE * usual)

    def _lose(self, worker: str, reason: str) -> None:
        hand = self.hands.pop(worker)
        self.crew.stop(worker, spent=True)
        now, self.reason = self.clock(), reason
        if hand.ready is None:
            self.lost_loading += 1
            self.listener.lost(hand, now - hand.since, reason)
            return
        if hand.unit is not None:
            self.listener.lost(hand, now - hand.since, reason)
            hand.worked += now - hand.since
            self._try_again(hand.tried, reason)
        self.listener.idled(hand, now - hand.ready_at - hand.worked)

    def _try_again(self, tried: Try, reason: str) -> None:
        self.lost_units += 1
        if tried.tries >= self.config.attempts:
            self.given_up.append((tried, reason))
        elif tried.tries == self.config.attempts - 1:
            self.again.extend(Try([batch], tried.tries) for batch in tried.batches)
        else:
            self.again.append(tried)
        if not self.made and self.lost_units >= self.config.attempts * max(1, self.crew.size()) and self.waiting:
            self.ending = self.ending or PrefmillError(
                f"{self.lost_units} workers of {self.stage} died or were late, and none has made a unit: {reason}",
                "give it more memory, a smaller batch, or more time (--set executor.slowest=SECONDS)",
            )

    def _let_go(self, worker: str) -> None:
        """A worker without a unit may load the next stage; what another one is at has nobody to take it."""
        hand = self.hands.pop(worker)
        now = self.clock()
        self.crew.stop(worker, spent=hand.ready is None or hand.unit is not None)
        if hand.ready is None:
            self.listener.lost(hand, now - hand.since, "")
        else:
            lost = now - hand.since if hand.unit is not None else 0.0
            if hand.unit is not None:
                self.listener.lost(hand, lost, "")
            self.listener.idled(hand, now - hand.ready_at - hand.worked - lost)

    def _not_made(self) -> PrefmillError:
        ranges = [f"{tried.batches[0].start} to {tried.batches[-1].stop - 1}" for tried, _ in self.given_up]
        shown = ", ".join(ranges[:5]) + (f" and {len(ranges) - 5} more" if len(ranges) > 5 else "")
        tries = self.given_up[0][0].tries
        return PrefmillError(
            f"{self.stage}: the inputs {shown} cost {tries} {'worker' if tries == 1 else 'workers'} each "
            f"({self.given_up[0][1]}); all others are committed",
            "look at those inputs (counted from 0), lower the batch size, or take them out; the same command tries "
            "them again",
        )
