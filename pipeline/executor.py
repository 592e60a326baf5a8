"""The local executor: one stage after the other, host work overlapped with the device's.

A stage runs to its end before the next one loads its model, because synthesis and scoring are both bound by
compute: keeping two models on one device gains almost nothing and costs memory. What does gain is host work beside
device work: while a batch computes, a thread prepares the next ones (decode, tokenise) and another finishes the
last one (encode) and commits it.

A batch is always the same inputs: it is cut at multiples of the batch size from the start of the input, also after
a crash, so that the last bits of its results, which depend on its composition, do not change either.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..engine.errors import PrefmillError
from .manifest import StageManifest, check_fingerprint
from .records import Reject
from .shards import Footer, write_shard
from .stage import Source, Task, work_digest
from .store import Dataset, Run


class ExecutorConfig(BaseModel):
    """How work is cut and committed. None of it changes a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prepare_ahead: int = Field(default=2, ge=1, description="batches prepared ahead of the device")
    host_threads: int = Field(default=2, ge=1, description="threads for decoding and encoding")
    commit_seconds: float = Field(default=60.0, ge=0, description="at most this much work is lost when a run is killed")
    commit_bytes: int = Field(default=64 << 20, ge=1, description="largest shard, in bytes held in memory")
    price_per_device_hour: float | None = Field(default=None, ge=0, description="for the cost in manifests and reports")


class Progress:
    """Who wants to know how a run gets on overrides what it needs; this one is silent."""

    def start(self, task: Task, total: int, done: int) -> None:
        """A stage begins; `done` of its `total` inputs were found finished."""

    def advance(self, task: Task, inputs: int) -> None:
        """So many more inputs are through."""

    def finish(self, task: Task, manifest: StageManifest) -> None:
        """A stage is complete."""

    def notice(self, message: str) -> None:
        """Something the user should read: a fallback, a shard set aside."""


@dataclass(frozen=True)
class Batch:
    """Inputs start..stop-1, computed together."""

    start: int
    stop: int


def run_tasks(run: Run, tasks: list[Task], config: ExecutorConfig, progress: Progress, upstream: str = "") -> None:
    """Bring every task of a run to its end, in order. Safe to call again after any interruption.

    `upstream` stands for what came before them: the digest of imported rows.
    """
    for task in tasks:
        upstream = run_task(run, task, upstream, config, progress)


def run_task(run: Run, task: Task, upstream: str, config: ExecutorConfig, progress: Progress) -> str:
    """Do what is missing of one task, and return its fingerprint for the tasks that follow."""
    fingerprint = task.fingerprint(upstream)
    dataset: Dataset[Any] = run.dataset(task.name, task.output)
    check_fingerprint(run, task, fingerprint)
    dataset.folder.mkdir(parents=True, exist_ok=True)
    source = task.source()
    for shard, why in _useless_shards(dataset, source, fingerprint):
        went = dataset.set_aside(shard, why)
        progress.notice(f"{task.name}: {shard.path.name} is {why}; set aside as {went}, its rows are made again")
    dataset = run.dataset(task.name, task.output)
    batches = list(missing_batches(dataset, len(source), task.batch_size))
    total, missing = len(source), sum(batch.stop - batch.start for batch in batches)
    progress.start(task, total, total - missing)
    manifest = StageManifest.begin(task, fingerprint, run.manifest(task.name))
    if batches or not run.has(task.name):
        run.write_manifest(task.name, manifest.to_json())
    if batches:
        stage = task.build()
        manifest = manifest.with_stage(stage)
        for notice in stage.notices:
            progress.notice(f"{task.name}: {notice}")
        run.write_manifest(task.name, manifest.to_json())
        _compute(stage, task, source, batches, dataset, fingerprint, config, progress)
    manifest = manifest.finish(run.dataset(task.name, task.output), total, config.price_per_device_hour)
    run.write_manifest(task.name, manifest.to_json())
    progress.finish(task, manifest)
    return fingerprint


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


def _compute(
    stage: Any,
    task: Task,
    source: Source[Any],
    batches: list[Batch],
    dataset: Dataset[Any],
    fingerprint: str,
    config: ExecutorConfig,
    progress: Progress,
) -> None:
    committer = Committer(dataset, source, fingerprint, config)
    upcoming, behind = iter(batches), deque[tuple[Batch, Future[Any], float]]()

    def drain(keep: int) -> None:
        while len(behind) > keep:
            batch, outputs, seconds = behind.popleft()
            committer.add(batch, outputs.result(), seconds)
            progress.advance(task, batch.stop - batch.start)

    # A source reads files through one cursor, so one thread reads; the rest encodes.
    with ThreadPoolExecutor(1, "prepare") as reader, ThreadPoolExecutor(config.host_threads, "finish") as writers:
        ahead: deque[tuple[Batch, Future[Any]]] = deque()

        def prepare_next() -> None:
            batch = next(upcoming, None)
            if batch is not None:
                ahead.append((batch, reader.submit(lambda: stage.prepare(source.read(batch.start, batch.stop)))))

        for _ in range(config.prepare_ahead):
            prepare_next()
        try:
            while ahead:
                batch, prepared = ahead.popleft()
                ready = prepared.result()
                prepare_next()
                started = time.perf_counter()
                computed = stage.compute(ready)
                behind.append((batch, writers.submit(stage.finish, computed), time.perf_counter() - started))
                drain(config.prepare_ahead)
            drain(0)
        except BaseException:
            drain(0)  # what has been computed is paid for: keep it, whatever stopped the rest
            raise
        finally:
            for _, pending in ahead:
                pending.cancel()
            committer.commit()


class Committer:
    """Gathers the outputs of consecutive batches and commits them as shards of a bounded size and age."""

    def __init__(self, dataset: Dataset[Any], source: Source[Any], fingerprint: str, config: ExecutorConfig) -> None:
        self.dataset, self.source, self.fingerprint, self.config = dataset, source, fingerprint, config
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
        if self.bytes >= self.config.commit_bytes or time.monotonic() - self.opened >= self.config.commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Write what has been gathered, if anything."""
        if self.stop > self.start:
            work = work_digest(self.fingerprint, self.source.keys(self.start, self.stop))
            footer = Footer(work, tuple(self.rejects), round(self.seconds, 3))
            write_shard(self.dataset.folder, self.start, self.stop, self.dataset.record_type, self.records, footer)
        self._reset(self.stop)
