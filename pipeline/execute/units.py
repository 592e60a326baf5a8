"""The worker's side: loads a stage once, then makes units of it, each one staged shard.

Batches are those of the local executor, so rows and rejects are too, byte for byte. What a worker sees of the store may
be older than what the coordinator sees: network file systems remember listings for a minute. So a unit comes with the
digest of its inputs' ids, and a worker that reads others looks again until it reads the same.
"""

from __future__ import annotations

import errno
import os
import pickle
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.files import make_folder, reason_of
from ..manifest import StageReport
from ..objects.outpost import Outpost
from ..records import Reject
from ..shards import STAGED, Footer, stage_shard
from ..stage import digest, work_digest
from ..usage import Usage, total
from .ahead import prepared_ahead
from .crew import Event, Failed, Made, Ready, StageOrder, Unit
from .plan import cut
from .work import JOURNAL

PATIENCE = (0.0, 1.0, 4.0, 15.0, 45.0)
"""Seconds to wait before looking again: together longer than a network file system remembers a listing."""
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE}
"""A disk that is full or gone: of the machine's own, where a stage's temporary files are, or a shared one."""


class UnitWorker:
    """A loaded stage that makes units."""

    def __init__(self, order: StageOrder) -> None:
        self.order, self.folder, self.name = order, Path(order.folder), f"{socket.gethostname()}:{os.getpid()}"
        self.outpost = Outpost.of(order.share, self.folder.parent, order.reads)
        if self.outpost is not None:
            self.outpost.fetch()
            make_folder(self.folder / STAGED)
        self.task = order.again()
        if digest(self.task.config) != order.config:
            raise PrefmillError(
                f"{self.name} computes {self.task.name} otherwise than the coordinator planned "
                f"({self.task.execution or 'another configuration'})",
                "give every machine the same version and kind of hardware, or name it: --set engine.dtype=bfloat16",
            )
        self.source = self.task.source()
        self.stage = self.task.build()
        self.stage.keep_in(self.folder / JOURNAL)
        self.finishers = ThreadPoolExecutor(order.host_threads, "finish")

    def ready(self) -> Ready:
        """Return what was loaded."""
        return Ready(StageReport.of(self.stage, self.task.execution.get("device", "")), self.name)

    def make(self, unit: Unit) -> Made:
        """Compute a unit and stage its shard.

        Raises PrefmillError where its inputs cannot be had, or the file system refuses.
        """
        self._see(unit)
        seconds, usages, finishing = 0.0, list[Usage](), []
        batches = cut(unit.start, unit.stop, self.task.batch_size)
        for batch, prepared in prepared_ahead(self.stage, self.source, batches, self.order.prepare_ahead):
            _ = batch
            started = time.perf_counter()
            computed = self.stage.compute(prepared)
            seconds += time.perf_counter() - started
            usage = self.stage.take_usage()
            usages += [usage] if usage is not None else []
            finishing.append(self.finishers.submit(self.stage.finish, computed))
        outputs = [output for finished in finishing for output in finished.result()]
        rejects = tuple(output for output in outputs if isinstance(output, Reject))
        records = [output for output in outputs if not isinstance(output, Reject)]
        for record in records:
            if not isinstance(record, self.task.output):
                raise PrefmillError(f"stage {self.task.name} returned a {type(record).__name__}", "report this")
        footer = Footer(unit.work, rejects)
        shard = stage_shard(self.folder, unit.start, unit.stop, self.task.output, records, footer)
        size, usage = shard.path.stat().st_size, total(usages) if usages else None
        said = tuple(self.stage.outcome)
        put = self.outpost.send(shard.path) if self.outpost is not None else ""
        made = (unit.start, unit.stop, shard.path.name, shard.checksum, len(records), size)
        return Made(*made, round(seconds, 6), usage, said, put)

    def close(self) -> None:
        """Let go of the model."""
        self.finishers.shutdown(wait=False, cancel_futures=True)
        self.stage.close()

    def _see(self, unit: Unit) -> None:
        """Read the store's listings anew until the unit's inputs are those that the coordinator meant."""
        for pause in (None, *PATIENCE):
            if pause is not None:
                time.sleep(pause)
                if self.outpost is not None:
                    self.outpost.fetch()
                self.source = self.order.again().source()
            if work_digest(self.order.fingerprint, self.source.keys(unit.start, unit.stop)) == unit.work:
                return
        raise PrefmillError(
            f"{self.name} does not find in {self.folder.parent} the inputs {unit.start} to {unit.stop - 1} of "
            f"{self.task.name} that the coordinator has there",
            "have every machine see the run's folder at the same path, on one file system",
        )


class Servant:
    """Does what it is told, one message at a time, and turns whatever goes wrong into one."""

    def __init__(self) -> None:
        self.worker: UnitWorker | None = None

    def obey(self, message: bytes) -> bytes:
        """Load the stage of an order, or make a unit of the one that is loaded; a reply is an event."""
        return pickle.dumps(self._answer(message))

    def _answer(self, message: bytes) -> Event:
        try:
            told: StageOrder | Unit = pickle.loads(message)
            if isinstance(told, Unit):
                assert self.worker is not None
                return self.worker.make(told)
            if self.worker is not None:  # the stage before
                self.worker.close()
                self.worker = None
                _free_device()
            self.worker = UnitWorker(told)
            return self.worker.ready()
        except PrefmillError as error:
            return Failed(error.message, error.fix or "", True)
        except OSError as error:
            if error.errno in _REFUSALS:  # another worker would fare no better
                where, fix = (
                    error.filename or "its disk",
                    "make room or bring it back, then give the same command again",
                )
                return Failed(f"{socket.gethostname()} cannot write {where}: {reason_of(error)}", fix, True)
            return Failed(_place_of(error), "", False)
        except Exception as error:
            return Failed(_place_of(error), "", False)


def _free_device() -> None:
    import gc
    import sys

    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _place_of(error: Exception) -> str:
    """Return an error with the line that raised it: a worker's traceback is seen by nobody."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" in {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}{place}"
