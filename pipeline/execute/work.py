"""A plan at work: the built stage that computes what is missing, and where its rows go."""

from __future__ import annotations

import math
import time
from collections import deque
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from ...base.progress import Progress
from ...base.settings import Settings
from ..budget import Purse
from ..ledger import DeviceLedger, DeviceTime, StageTime, totals
from ..manifest import StageManifest, StageReport
from ..stage import Source, Stage
from ..store import Dataset, Run
from ..usage import Usage
from .commit import Committer
from .meter import DeviceMeter
from .plan import Batch, Plan

JOURNAL = "_journal"
"""The folder beside a stage's shards for what must survive a kill before it is committed."""


class ExecutorConfig(Settings):
    """How work is cut, computed and committed. None of it changes a result, or is part of a fingerprint."""

    engine: Literal["auto", "local", "processes", "ray"] = Field(
        default="auto",
        description="auto: processes, one on each GPU, where this machine has several; else local: this process",
    )
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="of processes and ray; auto: one on each GPU, and one where there is none"
    )
    unit_seconds: float = Field(default=60.0, ge=0, description="of work for a worker at a time; what its death costs")
    attempts: int = Field(default=3, ge=1, description="workers that may die over the same inputs, or while loading")
    slowest: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        default="auto", description="seconds after which a unit's worker is replaced; auto: ten times what was usual"
    )
    mixed_hardware: bool = Field(default=False, description="GPUs of several types may work on one stage")
    address: str | None = Field(default=None, description="of the Ray cluster, HOST:PORT; else $RAY_ADDRESS, else here")
    connect_seconds: float = Field(default=120.0, gt=0, description="after which a silent Ray cluster is given up")
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

    def __init__(
        self,
        run: Run,
        plan: Plan,
        config: ExecutorConfig,
        progress: Progress,
        ledger: DeviceLedger,
        purse: Purse | None,
    ) -> None:
        self.ledger, self.purse = ledger, purse
        self.run, self.plan, self.config, self.progress = run, plan, config, progress
        self.task = plan.task
        self.source: Source[Any] = plan.source
        name = self.task.name
        dataset: Dataset[Any] = run.dataset(name, self.task.output)
        dataset.create()
        for useless in plan.useless:
            went, file = dataset.set_aside(useless.shard, useless.why), useless.shard.path.name
            again = "" if useless.why == "overlapping" else ", its rows are made again"
            progress.notice(f"{name}: {file} is {useless.why}; set aside as {went}{again}")
        self.dataset: Dataset[Any] = run.dataset(name, self.task.output)
        self.said: set[str] = set()
        self.device_name = ""
        self.behind: deque[tuple[Batch, Future[Any], float, Usage | None]] = deque()

    def begin(self, total: int, *, missing: bool, meter: DeviceMeter | None = None) -> None:
        """Start the progress of `total` inputs and the manifest; build the stage if there is something to do.

        `meter`: that of the task it runs beside.
        """
        task = self.task
        self.announce(total, missing=missing)
        if missing:
            self.meter = meter or DeviceMeter(self.ledger, self.purse)
            self.known = totals(self.ledger).get(task.name, StageTime())
            self.meter.require(task.name, self.known.load + (self.known.rate or 0.0) * task.batch_size)
            began = round(time.time(), 6)
            self.stage, seconds = self.meter.measure(task.build)
            self.stage.keep_in(self.dataset.folder / JOURNAL)
            self.stage.tell(lambda text: self.progress.line(f"{task.name}: {text}"))
            report = StageReport.of(self.stage, task.execution.get("device", ""))
            self.device_name = report.device_name
            self.learn(report)
            self._book(DeviceTime(stage=task.name, what="loading", seconds=round(seconds, 6), began=began))
            self.committer = Committer(
                self.dataset,
                self.source,
                self.plan.fingerprint,
                self._book,
                largest=self.config.commit_bytes,
                longest=self.config.commit_seconds,
            )

    def announce(self, total: int, *, missing: bool) -> None:
        """Start the progress of `total` inputs and the manifest."""
        task, run = self.task, self.run
        self.progress.begin(task.name, total, self.plan.done, task.unit)
        self.manifest = StageManifest.begin(task, self.plan.fingerprint, run.manifest(task.name))
        if missing or not run.has(task.name):
            run.write_manifest(task.name, self.manifest.to_json())

    def learn(self, report: StageReport) -> None:
        """Keep what a built stage says of itself, and say what is new of its notices.

        Raises PrefmillError where it is not what the stage was begun with.
        """
        known = self.manifest
        self.manifest = known.with_report(report, mixed=self.config.mixed_hardware)
        for notice in (*report.notices, *(new for new in self.manifest.notices if new not in known.notices)):
            if notice not in self.said:
                self.said.add(notice)
                self.progress.notice(f"{self.task.name}: {notice}")
        if self.manifest != known:
            self.run.write_manifest(self.task.name, self.manifest.to_json())

    def compute(self, batch: Batch, prepared: Any, finishers: Executor) -> Any:
        """Compute a prepared batch, let `finishers` finish it, and return what was computed."""
        size = batch.stop - batch.start
        if self.run.sharing is not None:
            self.run.sharing.require()
        self.meter.require(self.task.name, (self.known.rate or 0.0) * size)
        computed, seconds = self.meter.measure(lambda: self.stage.compute(prepared))
        self.known = replace(self.known, work=self.known.work + seconds, units=self.known.units + size)
        usage = self.stage.take_usage()
        self.behind.append((batch, finishers.submit(self.stage.finish, computed), seconds, usage))
        return computed

    def drain(self, keep: int = 0, *, up_to: float = math.inf) -> None:
        """Hand finished batches on to be committed: all but the last `keep`, and none beyond input `up_to`."""
        while len(self.behind) > keep and self.behind[0][0].stop <= up_to:
            batch, outputs, seconds, usage = self.behind[0]
            self.committer.add(batch, outputs.result(), seconds, usage)
            self.behind.popleft()  # after it was taken: an interrupt before this hands it on again
            self.progress.step(self.task.name, batch.stop - batch.start)

    def _book(self, piece: DeviceTime) -> None:
        self.meter.book(piece.model_copy(update={"device": self.device_name}))
        if self.device_name:
            self.meter.book_idle(self.task.name, self.device_name)

    def note_outcome(self) -> None:
        """Say what happened in the stage, and keep it, whether or not all has been computed."""
        if self.device_name:  # else nothing was held
            self.meter.book_idle(self.task.name, self.device_name, at_end=True)
        self.learn(StageReport.of(self.stage))

    def end(self) -> None:
        """Write what came out and what it cost."""
        dataset = self.run.dataset(self.task.name, self.task.output)
        price, measures = self.config.price_per_device_hour, self.task.measure()
        taken = totals(self.ledger).get(self.task.name, StageTime())
        self.manifest = self.manifest.finish(dataset, len(self.source), taken, price, measures)
        self.run.write_manifest(self.task.name, self.manifest.to_json())
        self.progress.end(self.task.name, self.manifest.summary(self.task.unit))
