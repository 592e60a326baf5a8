"""What a stage is: a class that loads its model once and maps a batch of records to a batch of records.

The split of `__call__` into three parts is what lets an executor overlap them: `prepare` (decode, tokenise) and
`finish` (encode) are host work that runs in threads, `compute` is the part that owns the device. An executor that
does not overlap, such as a Ray Data actor pool, calls the stage itself. Stages are pure: the same inputs give the
same outputs, with every seed derived from record ids, so a rerun after a crash gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .records import Reject
from .usage import Usage

if TYPE_CHECKING:
    from ..engine.runner import Runner

In = TypeVar("In")
Out = TypeVar("Out")
In_co = TypeVar("In_co", covariant=True)


class Stage(ABC, Generic[In, Out]):
    """One step of the pipeline. Subclasses load their model in `__init__`."""

    model_keys: tuple[str, ...] = ()  # the weights used, for the manifest
    notices: tuple[str, ...] = ()  # fallbacks taken, for the manifest and the screen

    @property
    def runners(self) -> Sequence[Runner]:
        """What runs its networks: none where it has no model."""
        return getattr(getattr(self, "engine", None), "runners", ())

    @property
    def outcome(self) -> tuple[str, ...]:
        """What happened while it worked that a reader of its rows should know, for the manifest and the screen."""
        return ()

    def keep_in(self, folder: Path) -> None:
        """Learn of a folder of the stage's own, for what must survive a kill before it is committed."""

    def tell(self, say: Callable[[str], None]) -> None:
        """Learn whom to tell what takes long within one batch."""

    def take_usage(self) -> Usage | None:
        """Return what requests to models took since this was last asked; None for a stage that makes none."""
        return None

    def close(self) -> None:
        """Let go of what outlives the object: processes, connections."""

    def prepare(self, inputs: Sequence[In]) -> Any:
        """Host work before `compute`, run in a thread ahead of it."""
        return inputs

    @abstractmethod
    def compute(self, prepared: Any) -> Any:
        """The device's work on a prepared batch."""

    def finish(self, computed: Any) -> list[Out | Reject]:
        """Host work after `compute`, run in a thread behind it."""
        return computed

    def hand_on(self, computed: Any) -> Sequence[tuple[str, Any]]:
        """What a stage that follows in memory gets of a computed batch: the id and its input for each output row."""
        raise NotImplementedError(f"{type(self).__name__} hands nothing on")

    def __call__(self, inputs: Sequence[In]) -> list[Out | Reject]:
        """Map a batch of inputs to outputs and rejects. A batch's composition is fixed by the executor."""
        return self.finish(self.compute(self.prepare(inputs)))


class Source(Protocol[In_co]):
    """The inputs of a stage, in an order that never changes: what has been added comes last."""

    def __len__(self) -> int:
        """Return the number of inputs."""
        ...

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of inputs start..stop-1: what their outputs depend on, cheap to read."""
        ...

    def read(self, start: int, stop: int) -> Sequence[In_co]:
        """Return inputs start..stop-1."""
        ...


@dataclass(frozen=True)
class Task:
    """One stage of a run, ready to execute: what it reads, what it writes, and how to build it."""

    name: str
    output: type
    source: Callable[[], Source[Any]]  # called when the stages before have finished
    build: Callable[[], Stage[Any, Any]]  # called only when there is something to do
    batch_size: int
    config: dict[str, Any] = field(default_factory=dict)  # what the outputs depend on, for the manifest
    unit: str = "rows"
    fan_out: int = 1  # rows per input, as far as is known before
    follows: str = ""  # the task whose rows it takes from memory, where that one runs before it and hands them on
    reads: tuple[str, ...] = ()  # the folders its inputs are made of
    setting: str = ""  # where its settings stand in the configuration, for advice
    execution: dict[str, str] = field(default_factory=dict)  # precision, backend and device, where it has a model
    checkpoints: tuple[str, ...] = ()  # the models it will load
    measure: Callable[[], dict[str, Any]] = dict  # called when all rows are there, for the manifest
    again: Callable[[], Task] | None = None  # makes it anew in another process: can be pickled

    def fingerprint(self, *upstream: str) -> str:
        """Return the digest of this stage's configuration and of all it reads."""
        return digest([*upstream, self.name, self.config])


def digest(value: Any) -> str:
    """Return a short digest of a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:16]


def work_digest(fingerprint: str, keys: Sequence[str]) -> str:
    """Return what a shard was made from: the configuration and the ids of its inputs."""
    running = hashlib.sha256(fingerprint.encode())
    for key in keys:
        running.update(key.encode() + b"\n")
    return running.hexdigest()[:16]
