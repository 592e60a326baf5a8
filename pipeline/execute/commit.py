"""Gathers what a stage's batches give and commits it as shards of a bounded size and age.

Ctrl-C may strike between any two instructions, also between a rename and the note that it was done. So every step can
be done twice: a batch is taken whole, in one step, and known when it comes again; and what a shard will hold is
settled before it is written, so that writing it again puts the same bytes under the same name.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...base.errors import PrefmillError
from ..ledger import DeviceTime
from ..records import Reject
from ..shards import Footer, write_shard
from ..stage import Source, work_digest
from ..store import Dataset
from ..usage import Usage, total
from .plan import Batch


@dataclass
class _Portion:
    """What one shard will hold: consecutive batches. `before`: rows on disk when it was opened."""

    start: int
    before: int
    batches: list[tuple[Batch, list[Any], float, Usage | None]] = field(default_factory=list)
    opened: float = field(default_factory=time.monotonic)
    began: float = field(default_factory=lambda: round(time.time(), 6))

    @property
    def stop(self) -> int:
        return self.batches[-1][0].stop if self.batches else self.start

    @property
    def outputs(self) -> list[Any]:
        return [output for _, outputs, _, _ in self.batches for output in outputs]

    @property
    def rows(self) -> int:
        return sum(not isinstance(output, Reject) for output in self.outputs)


class Committer:
    """Gathers the outputs of consecutive batches and commits them as shards of a bounded size and age."""

    def __init__(
        self,
        dataset: Dataset[Any],
        source: Source[Any],
        fingerprint: str,
        book: Callable[[DeviceTime], None],
        *,
        largest: int,
        longest: float,
    ) -> None:
        """`book` takes what a committed shard took; `largest` shard in bytes in memory, `longest` wait in seconds."""
        self.dataset, self.source, self.fingerprint, self.book = dataset, source, fingerprint, book
        self.largest, self.longest = largest, longest
        self.rows = len(dataset)
        """Rows on disk."""
        self.bytes = 0
        self.portions = deque([_Portion(0, self.rows)])
        """To be written, oldest first; the last one is open."""

    def add(self, batch: Batch, outputs: list[Any], seconds: float, usage: Usage | None = None) -> None:
        """Take a batch's outputs; commit when they no longer fit the shard, or it has waited long enough."""
        if batch.stop <= self.portions[-1].stop:
            return  # batches come in order, so this one was taken before an interrupt
        if batch.start != self.portions[-1].stop:
            self.commit()
            self.portions[-1].start = batch.start
        for output in outputs:
            if not isinstance(output, Reject | self.dataset.record_type):
                raise PrefmillError(f"stage {self.dataset.name} returned a {type(output).__name__}", "report this")
        self.portions[-1].batches.append((batch, outputs, seconds, usage))
        self.bytes += sum(_size(output) for output in outputs)
        if self.bytes >= self.largest or time.monotonic() - self.portions[-1].opened >= self.longest:
            self.commit()

    def commit(self) -> None:
        """Write what has been gathered, if anything."""
        last = self.portions[-1]
        if last.batches:
            self.portions.append(_Portion(last.stop, last.before + last.rows))
        self.bytes = 0
        while len(self.portions) > 1:
            self._write(self.portions[0])
            self.portions.popleft()
        self.portions[-1].opened = time.monotonic()

    def _write(self, portion: _Portion) -> None:
        outputs, kind = portion.outputs, self.dataset.record_type
        rejects = tuple(output for output in outputs if isinstance(output, Reject))
        records = [output for output in outputs if not isinstance(output, Reject)]
        work = work_digest(self.fingerprint, self.source.keys(portion.start, portion.stop))
        write_shard(self.dataset.folder, portion.start, portion.stop, kind, records, Footer(work, rejects))
        self.rows = portion.before + len(records)
        usages = [usage for _, _, _, usage in portion.batches if usage is not None]
        self.book(
            DeviceTime(
                stage=self.dataset.name,
                what="work",
                seconds=round(sum(seconds for _, _, seconds, _ in portion.batches), 6),
                began=portion.began,
                units=portion.stop - portion.start,
                rows=len(records),
                start=portion.start,
                stop=portion.stop,
                usage=total(usages) if usages else None,
            )
        )


def _size(output: Any) -> int:
    return 0 if isinstance(output, Reject) else len(getattr(output, "image", b"")) + 200
