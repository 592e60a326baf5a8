"""One task of a run at work: what its folder holds, what is missing, and the built stage that makes it.

A batch is always the same inputs: it is cut at multiples of the batch size from the start of the input, also after
a crash, so that the last bits of its results, which depend on its composition, do not change either.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from functools import cached_property
from typing import Any

from pydantic import Field

from ...base.progress import Progress
from ...base.settings import Settings
from ..manifest import StageManifest, check_fingerprint
from ..stage import Source, Stage, Task, work_digest
from ..store import Dataset, Run
from .commit import Batch, Committer


class ExecutorConfig(Settings):
    """How work is cut and committed. None of it changes a result."""

    prepare_ahead: int = Field(default=2, ge=1, description="batches prepared ahead of the device")
    host_threads: int = Field(default=2, ge=1, description="threads for decoding and encoding")
    commit_seconds: float = Field(default=60.0, ge=0, description="at most this much work is lost when a run is killed")
    commit_bytes: int = Field(default=64 << 20, ge=1, description="largest shard, in bytes held in memory")
    price_per_device_hour: float | None = Field(default=None, ge=0, description="for the cost in manifests and reports")


class Work:
    """Sets useless shards aside when made; then `begin`, `compute` and `drain` batches, `end`."""

    stage: Stage[Any, Any]
    committer: Committer
    manifest: StageManifest

    def __init__(self, run: Run, task: Task, upstream: str, config: ExecutorConfig, progress: Progress) -> None:
        self.run, self.task, self.config, self.progress = run, task, config, progress
        self.fingerprint = task.fingerprint(upstream)
        check_fingerprint(run, task, self.fingerprint)
        dataset: Dataset[Any] = run.dataset(task.name, task.output)
        dataset.folder.mkdir(parents=True, exist_ok=True)
        self.source = task.source()
        for shard, why in _useless_shards(dataset, self.source, self.fingerprint):
            went = dataset.set_aside(shard, why)
            progress.notice(f"{task.name}: {shard.path.name} is {why}; set aside as {went}, its rows are made again")
        self.dataset: Dataset[Any] = run.dataset(task.name, task.output)
        self.behind: deque[tuple[Batch, Future[Any], float]] = deque()

    @cached_property
    def batches(self) -> list[Batch]:
        """What was missing when the work began."""
        return list(missing_batches(self.dataset, len(self.source), self.task.batch_size))

    @property
    def done(self) -> int:
        """How many inputs the shards cover."""
        return sum(shard.stop - shard.start for shard in self.dataset.shards)

    @property
    def misses_only_its_end(self) -> bool:
        """Whether the shards cover the first inputs without a gap."""
        return self.done == (self.dataset.shards[-1].stop if self.dataset.shards else 0)

    def begin(self, total: int, *, missing: bool) -> None:
        """Start the progress of `total` inputs and the manifest; build the stage if there is something to do."""
        task, run = self.task, self.run
        self.progress.begin(task.name, total, self.done, task.unit)
        self.manifest = StageManifest.begin(task, self.fingerprint, run.manifest(task.name))
        if missing or not run.has(task.name):
            run.write_manifest(task.name, self.manifest.to_json())
        if missing:
            self.stage = task.build()
            self.manifest = self.manifest.with_stage(self.stage)
            for notice in self.stage.notices:
                self.progress.notice(f"{task.name}: {notice}")
            run.write_manifest(task.name, self.manifest.to_json())
            self.committer = Committer(
                self.dataset,
                self.source,
                self.fingerprint,
                largest=self.config.commit_bytes,
                longest=self.config.commit_seconds,
            )

    def compute(self, batch: Batch, prepared: Any, finishers: Executor) -> Any:
        """Compute a prepared batch, let `finishers` finish it, and return what was computed."""
        started = time.perf_counter()
        computed = self.stage.compute(prepared)
        self.behind.append((batch, finishers.submit(self.stage.finish, computed), time.perf_counter() - started))
        return computed

    def drain(self, keep: int = 0, *, up_to: float = math.inf) -> None:
        """Hand finished batches on to be committed: all but the last `keep`, and none beyond input `up_to`."""
        while len(self.behind) > keep and self.behind[0][0].stop <= up_to:
            batch, outputs, seconds = self.behind.popleft()
            self.committer.add(batch, outputs.result(), seconds)
            self.progress.step(self.task.name, batch.stop - batch.start)

    def end(self) -> None:
        """Write what came out and what it cost."""
        dataset = self.run.dataset(self.task.name, self.task.output)
        self.manifest = self.manifest.finish(dataset, len(self.source), self.config.price_per_device_hour)
        self.run.write_manifest(self.task.name, self.manifest.to_json())
        self.progress.end(self.task.name, self.manifest.summary(self.task.unit))


def _useless_shards(dataset: Dataset[Any], source: Source[Any], fingerprint: str) -> Iterator[tuple[Any, str]]:
    """Yield the shards to make again: damaged ones, and ones whose inputs are no longer what they were."""
    intact = [shard for shard in dataset.shards if shard.is_intact()]
    yield from ((shard, "damaged") for shard in dataset.shards if shard not in intact)
    dataset.shards = intact
    for shard, footer in dataset.footers():
        fits = shard.stop <= len(source)
        if not fits or footer.work != work_digest(fingerprint, source.keys(shard.start, shard.stop)):
            yield shard, "out-of-date"


def missing_batches(dataset: Dataset[Any], total: int, batch_size: int) -> Iterator[Batch]:
    """Yield the batches that no shard covers, cut at multiples of the batch size."""
    position = 0
    for start, stop in [*((shard.start, shard.stop) for shard in dataset.shards), (total, total)]:
        while position < start:
            end = min(start, (position // batch_size + 1) * batch_size)
            yield Batch(position, end)
            position = end
        position = max(position, stop)
