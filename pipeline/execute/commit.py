"""Gathers what a stage's batches give and commits it as shards of a bounded size and age."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ...base.errors import PrefmillError
from ..records import Reject
from ..shards import Footer, write_shard
from ..stage import Source, work_digest
from ..store import Dataset


@dataclass(frozen=True)
class Batch:
    """Inputs start..stop-1, computed together."""

    start: int
    stop: int


class Committer:
    """Gathers the outputs of consecutive batches and commits them as shards of a bounded size and age."""

    def __init__(
        self, dataset: Dataset[Any], source: Source[Any], fingerprint: str, *, largest: int, longest: float
    ) -> None:
        """`largest` shard in bytes held in memory, `longest` wait of a row in seconds."""
        self.dataset, self.source, self.fingerprint = dataset, source, fingerprint
        self.largest, self.longest = largest, longest
        self.rows = len(dataset)
        """Rows on disk."""
        self._reset(0)

    def _reset(self, position: int) -> None:
        self.start = self.stop = position
        self.records: list[Any] = []
        self.rejects: list[Reject] = []
        self.bytes, self.seconds, self.opened = 0, 0.0, time.monotonic()

    def add(self, batch: Batch, outputs: list[Any], seconds: float) -> None:
        """Take a batch's outputs; commit when they no longer fit the shard, or it has waited long enough."""
        if batch.start != self.stop:
            self.commit()
            self._reset(batch.start)
        for output in outputs:
            if isinstance(output, Reject):
                self.rejects.append(output)
            elif isinstance(output, self.dataset.record_type):
                self.records.append(output)
                self.bytes += len(getattr(output, "image", b"")) + 200
            else:
                raise PrefmillError(f"stage {self.dataset.name} returned a {type(output).__name__}", "report this")
        self.stop, self.seconds = batch.stop, self.seconds + seconds
        if self.bytes >= self.largest or time.monotonic() - self.opened >= self.longest:
            self.commit()

    def commit(self) -> None:
        """Write what has been gathered, if anything."""
        if self.stop > self.start:
            work = work_digest(self.fingerprint, self.source.keys(self.start, self.stop))
            footer = Footer(work, tuple(self.rejects), round(self.seconds, 3))
            write_shard(self.dataset.folder, self.start, self.stop, self.dataset.record_type, self.records, footer)
            self.rows += len(self.records)
        self._reset(self.stop)
