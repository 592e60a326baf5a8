"""A plan at work: the built stage that computes what is missing, and where its rows go."""

from __future__ import annotations

import math
import time
from collections import deque
from concurrent.futures import Executor, Future
from typing import Annotated, Any, Literal

from pydantic import Field

from ...base.progress import Progress
from ...base.settings import Settings
from ..ledger import DeviceLedger, DeviceTime, What, totals
from ..manifest import StageManifest, StageReport
from ..stage import Source, Stage
from ..store import Dataset, Run
from ..usage import Usage
from .commit import Committer
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

    def __init__(self, run: Run, plan: Plan, config: ExecutorConfig, progress: Progress) -> None:
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
        self.ledger = DeviceLedger(run.folder)
        self.behind: deque[tuple[Batch, Future[Any], float, Usage | None]] = deque()
        self.said: set[str] = set()
        self.busy = 0.0
        """Seconds that the device has computed."""

    def begin(self, total: int, *, missing: bool) -> None:
        """Start the progress of `total` inputs and the manifest; build the stage if there is something to do."""
        self.announce(total, missing=missing)
        if not missing:
            return
        began, started = time.time(), time.perf_counter()
        self.stage = self.task.build()
        self.stage.keep_in(self.dataset.folder / JOURNAL)
        self.stage.tell(lambda text: self.progress.line(f"{self.task.name}: {text}"))
        report = StageReport.of(self.stage, self.task.execution.get("device", ""))
        if self.task.checkpoints:
            self.note("loading", time.perf_counter() - started, began, device=report.device_name)
        self.learn(report)
        sizes = {"largest": self.config.commit_bytes, "longest": self.config.commit_seconds}
        self.committer = Committer(self.dataset, self.source, self.plan.fingerprint, self._took, **sizes)

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
        for notice in report.notices:
            if notice not in self.said:
                self.said.add(notice)
                self.progress.notice(f"{self.task.name}: {notice}")
        if self.manifest != known:
            self.run.write_manifest(self.task.name, self.manifest.to_json())

    def note(self, what: What, seconds: float, began: float, **more: Any) -> None:
        """Enter a piece of device time in the run's ledger."""
        self.ledger.add(DeviceTime(stage=self.task.name, what=what, seconds=max(0.0, seconds), began=began, **more))

    def _took(self, seconds: float, began: float, start: int, stop: int, rows: int, usage: Usage | None) -> None:
        counts = {"units": stop - start, "rows": rows, "start": start, "stop": stop}
        self.note("work", seconds, began, **counts, usage=usage, device=self._device)

    @property
    def _device(self) -> str:
        hardware = self.manifest.hardware if self.task.checkpoints else {}
        return hardware.get("gpu") or hardware.get("cpu", "")

    def compute(self, batch: Batch, prepared: Any, finishers: Executor) -> Any:
        """Compute a prepared batch, let `finishers` finish it, and return what was computed."""
        started = time.perf_counter()
        computed = self.stage.compute(prepared)
        seconds, usage = time.perf_counter() - started, self.stage.take_usage()
        self.busy += seconds
        self.behind.append((batch, finishers.submit(self.stage.finish, computed), seconds, usage))
        return computed

    def drain(self, keep: int = 0, *, up_to: float = math.inf) -> None:
        """Hand finished batches on to be committed: all but the last `keep`, and none beyond input `up_to`."""
        while len(self.behind) > keep and self.behind[0][0].stop <= up_to:
            batch, outputs, seconds, usage = self.behind[0]
            self.committer.add(batch, outputs.result(), seconds, usage)
            self.behind.popleft()  # after it was taken: an interrupt before this hands it on again
            self.progress.step(self.task.name, batch.stop - batch.start)

    def note_outcome(self, idle: float, began: float) -> None:
        """Say what happened in the stage, and keep it, whether or not all was computed; `idle` seconds of the device."""
        if self.task.checkpoints:
            self.note("idle", idle, began, device=self._device)
        if self.stage.outcome:
            self.learn(StageReport.of(self.stage))

    def end(self) -> None:
        """Write what came out and what it cost."""
        dataset = self.run.dataset(self.task.name, self.task.output)
        price, measures = self.config.price_per_device_hour, self.task.measure()
        time = totals(self.ledger).get(self.task.name)
        self.manifest = self.manifest.finish(dataset, len(self.source), price, time, measures)
        self.run.write_manifest(self.task.name, self.manifest.to_json())
        self.progress.end(self.task.name, self.manifest.summary(self.task.unit))
