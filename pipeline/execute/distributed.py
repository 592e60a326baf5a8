"""A stage computed by a crew: this process plans, hands out, and commits what workers stage, each range once."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.files import make_folder, remove
from ..budget import BudgetSpent
from ..ledger import DeviceTime, StageTime, What, totals
from ..shards import STAGED, Shard, adopt
from ..stage import digest, work_digest
from .crew import Crew, StageOrder
from .dispatch import Dispatcher, DispatchListener, Hand, Result
from .work import Work


def compute_by(crew: Crew, work: Work) -> None:
    """Bring a task to its end through a crew.

    Raises PrefmillError for what a user has to correct, and for inputs that could not be computed; everything that
    could be is committed.
    """
    batches = work.plan.missing
    work.announce(len(work.source), missing=bool(batches))
    if batches:
        staged = work.dataset.folder / STAGED
        make_folder(staged)
        if work.run.sharing is not None:
            work.run.sharing.publish()  # what workers elsewhere are to read
        bookkeeper, known = _Bookkeeper(work, crew.engine), totals(work.ledger).get(work.task.name, StageTime())
        usual = (known.rate or 0.0) * work.task.batch_size
        dispatcher = Dispatcher(
            crew, _order(work), work.task.name, bookkeeper.digest_of, work.config, bookkeeper, seconds_per_batch=usual
        )
        try:
            if spent := bookkeeper.afford(known.load + usual, 0.0):  # before a model is loaded
                raise spent
            with closing(dispatcher.results(batches)) as results:  # workers are let go of now, not some time later
                for result in results:
                    bookkeeper.commit(result)
        finally:
            remove(staged)
    work.end()


def _order(work: Work) -> StageOrder:
    task, config = work.task, work.config
    assert task.again is not None
    folder, taken_for = str(work.dataset.folder.resolve()), digest(task.config)
    share = work.run.sharing.for_workers() if work.run.sharing is not None else None
    fixed = (task.again, folder, work.plan.fingerprint, taken_for, config.prepare_ahead, config.host_threads)
    return StageOrder(*fixed, task.reads, share)


class _Bookkeeper(DispatchListener):
    """Commits what was made, and enters in the ledger what that and everything else took of the workers' time."""

    def __init__(self, work: Work, engine: str) -> None:
        self.work, self.engine = work, engine

    def digest_of(self, start: int, stop: int) -> str:
        """Return what a shard of these inputs is made from."""
        return work_digest(self.work.plan.fingerprint, self.work.source.keys(start, stop))

    def commit(self, result: Result) -> None:
        """Give a staged shard its place."""
        work, made, ready = self.work, result.made, result.hand.ready
        folder = work.dataset.folder
        staged = folder / STAGED / Path(made.file).name
        if made.object and work.run.sharing is not None:
            work.run.sharing.receive(made.object, staged, made.checksum)
        adopt(Shard(made.start, made.stop, made.checksum, staged), folder)
        counts = {"units": made.stop - made.start, "rows": made.rows, "start": made.start, "stop": made.stop}
        self._note(result.hand, "work", made.seconds, **counts, usage=made.usage)
        if made.notices and ready is not None:
            work.learn(replace(ready.report, notices=made.notices))
        work.progress.step(work.task.name, made.stop - made.start)

    def afford(self, seconds: float, pending: float) -> PrefmillError | None:
        """Whether the budget covers so many seconds more."""
        if self.work.run.sharing is not None:
            try:
                self.work.run.sharing.require()
            except PrefmillError as lost:
                return lost
        if self.work.purse is not None:
            try:
                self.work.purse.require(self.work.task.name, seconds, pending=pending)
            except BudgetSpent as spent:
                return spent
        return None

    def loaded(self, hand: Hand, seconds: float) -> None:
        """Hold what a worker loaded against what the others have."""
        self._note(hand, "loading", seconds)
        if hand.ready is not None:
            self.work.learn(hand.ready.report)

    def waits(self, seconds: float) -> None:
        """Say so: Ray keeps silent about workers for which there is no room."""
        why = "they wait for a place in the cluster (ray status), or load" if self.engine == "ray" else "they load"
        self.work.progress.notice(f"{self.work.task.name}: no worker is ready after {seconds:.0f} s: {why}")

    def lost(self, hand: Hand, seconds: float, reason: str) -> None:
        """What was lost was paid for; where there is a reason, it is news."""
        unit = hand.unit
        if unit is None:
            self._note(hand, "loading", seconds)
            tried = "while it loaded the stage"
        else:
            self._note(hand, "work", seconds, start=unit.start, stop=unit.stop)
            tried = f"over the inputs {unit.start} to {unit.stop - 1}, attempt {hand.tried.tries}"
        if reason:
            self.work.progress.notice(f"{self.work.task.name}: a worker is given up {tried}: {reason}")

    def idled(self, hand: Hand, seconds: float) -> None:
        """Waiting is paid for as well."""
        self._note(hand, "idle", seconds)

    def _note(self, hand: Hand, what: What, seconds: float, **more: Any) -> None:
        report, name = (hand.ready.report, hand.ready.name) if hand.ready else (None, "")
        device = report.device_name if report else ""
        seconds = round(max(0.0, seconds), 6)
        began = max(0.0, round(time.time() - seconds, 6))  # for people: nothing is reckoned from a clock of the day
        piece = DeviceTime(stage=self.work.task.name, what=what, seconds=seconds, began=began)
        where = {"device": device, "worker": name, "engine": self.engine}
        self.work.ledger.add(piece.model_copy(update=where | more))
