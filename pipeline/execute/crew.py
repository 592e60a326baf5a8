"""A crew: workers somewhere, each with the stage loaded, and what is said between them and the coordinator.

The coordinator holds the run's lock, plans, hands out units and commits what they became. A worker reads its inputs
from the store, computes, and stages one shard. Between them go the messages of this file, which hold names and numbers:
a few hundred bytes for a unit, whatever its rows weigh.

A crew knows where workers are and when one has died, and nothing else. It never tries anything again: what happens then
is the dispatcher's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..manifest import StageReport
from ..objects.outpost import WorkerShare
from ..stage import Task
from ..usage import Usage


@dataclass(frozen=True)
class StageOrder:
    """What a worker needs to know to load a stage. `config`: the digest of what the coordinator takes its task for."""

    again: Callable[[], Task]
    folder: str
    """Of the stage's rows."""
    fingerprint: str
    config: str
    prepare_ahead: int
    host_threads: int
    reads: tuple[str, ...] = ()
    share: WorkerShare | None = None
    """Where machines find the run that have no file system in common."""


@dataclass(frozen=True)
class Unit:
    """Inputs `start` to `stop` - 1, whole batches of them, for a worker at a time; `work` is their shard's digest."""

    start: int
    stop: int
    work: str = ""


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the stage."""

    report: StageReport
    name: str
    """Of the worker, for people: its host and process."""


@dataclass(frozen=True)
class Made:
    """A worker has computed a unit and staged its shard as `file`, of `size` bytes, in `seconds` of its device.

    `object`: what it put the shard under in an object store, where it is on a machine without the run's folder.
    """

    start: int
    stop: int
    file: str
    checksum: str
    rows: int
    size: int
    seconds: float
    usage: Usage | None = None
    notices: tuple[str, ...] = ()
    object: str = ""


@dataclass(frozen=True)
class Died:
    """A worker is no more."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """What a worker was told to do raised an error; `is_known`: one of ours, which ends with its remedy."""

    message: str
    fix: str
    is_known: bool


Event = Ready | Made | Died | Failed


class Crew(Protocol):
    """Workers, by their names. One that has died is forgotten when that has been collected."""

    engine: str

    def size(self) -> int:
        """Return how many workers there can be now."""
        ...

    def warm(self) -> None:
        """Begin what takes long and needs no order: workers will be wanted soon."""
        ...

    def start(self, order: StageOrder) -> str:
        """Have a worker load a stage, and return its name; it will be Ready, Failed or Died."""
        ...

    def submit(self, worker: str, unit: Unit) -> None:
        """Give a worker that is ready a unit; it will be Made, Failed, or the worker Died."""
        ...

    def collect(self, seconds: float) -> list[tuple[str, Event]]:
        """Return what has happened, waiting up to so many seconds for something to happen."""
        ...

    def stop(self, worker: str, *, spent: bool) -> None:
        """Let go of a worker. One that is `spent` (late, confused) is killed; another may load the next stage."""
        ...

    def close(self) -> None:
        """Let go of all workers."""
        ...
