"""A task that takes its inputs from the memory of the one before it, while that one runs.

Its rows, batches and shards are those it would have after the other: inputs are numbered as the other's rows are,
and a batch waits until it is full. A shard is committed only when the rows that it is about are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, Self

from ..stage import Source, Task
from .plan import Batch
from .work import Work


class HandedOn:
    """The rows that are stored, and after them the ones handed on, each kept until it is read."""

    def __init__(self, stored: Source[Any]) -> None:
        self.stored = stored
        self.identities = list(stored.keys(0, len(stored)))
        self.waiting: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.identities)

    def add(self, items: Sequence[tuple[str, Any]]) -> None:
        """Take further inputs with their ids."""
        for identity, item in items:
            self.waiting[len(self.identities)] = item
            self.identities.append(identity)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range."""
        return self.identities[start:stop]

    def read(self, start: int, stop: int) -> Sequence[Any]:
        """Return a range, once."""
        first = min(max(start, len(self.stored)), stop)
        return [*self.stored.read(start, first), *(self.waiting.pop(row) for row in range(first, stop))]


class Follower:
    """The second of two tasks that run side by side."""

    def __init__(self, work: Work, leader: Work) -> None:
        self.work, self.leader = work, leader
        self.source = work.source = HandedOn(work.source)
        self.position = work.plan.done

    @staticmethod
    def may_run_beside(leader: Work, task: Task) -> bool:
        """Whether a task can take its inputs from its leader's memory; else it runs after the leader.

        A gap in the leader's rows leaves open which number the rows behind it will have.
        """
        plan = leader.plan
        if task.follows != leader.task.name or not plan.missing or not plan.misses_only_its_end:
            return False
        shards = leader.run.dataset(task.name, task.output).shards
        return not shards or shards[-1].stop <= len(leader.dataset)

    @classmethod
    def beside(cls, leader: Work, work: Work) -> Self | None:
        """The task beside its leader, if it misses only its end as well."""
        return cls(work, leader) if work.plan.misses_only_its_end else None

    def begin(self) -> None:
        """Load the model before the leader starts: what is wrong with it shows now and not in hours."""
        missing = len(self.leader.source) - self.leader.plan.done
        total = len(self.source) + missing * self.leader.task.fan_out
        self.work.begin(total, missing=True, meter=self.leader.meter)

    def take(self, items: Sequence[tuple[str, Any]], finishers: Executor) -> None:
        """Take what the leader hands on, compute the batches that are full, and commit what may be."""
        self.source.add(items)
        size = self.work.task.batch_size
        self._compute_to(len(self.source) // size * size, finishers)
        self.work.drain(up_to=self.leader.committer.rows)

    def take_last(self, finishers: Executor) -> None:
        """Compute the last batch, full or not."""
        self._compute_to(len(self.source), finishers)

    def commit(self) -> None:
        """Commit everything whose rows the leader has committed."""
        self.work.drain(up_to=self.leader.committer.rows)
        self.work.committer.commit()

    def _compute_to(self, end: int, finishers: Executor) -> None:
        size = self.work.task.batch_size
        while self.position < end:
            batch = Batch(self.position, min(end, (self.position // size + 1) * size))
            self.work.compute(batch, self.work.stage.prepare(self.source.read(batch.start, batch.stop)), finishers)
            self.position = batch.stop
