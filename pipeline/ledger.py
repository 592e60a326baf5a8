"""The ledger of a run: every piece of time for which a device was held, whoever held it and whatever came of it.

`RUN/ledger.jsonl` has a line of JSON for each piece and is only ever appended to. It stands beside the rows and not in
them: the same rows have the same bytes, however long they took. Time that was lost (a unit whose worker died, rows that
were set aside) stays in it, since it was paid for.

Whoever hands out work writes it (the coordinator of a run, not its workers). A line is one write under a lock of the
kernel's, so that several writers on a host do not mix theirs; each begins with a line break, so that what a kill cut
short ends there and is passed over. A piece that was written twice, because an interrupt left open whether it was,
counts once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..base.errors import PrefmillError
from ..base.files import reason_of
from .usage import Usage

if TYPE_CHECKING:
    from .dataset import Dataset

LEDGER = "ledger.jsonl"
What = Literal["loading", "work", "idle", "training"]


class DeviceTime(BaseModel):
    """One piece of device time: `seconds` summed over the devices that were held, from `began` (seconds of the epoch).

    loading: a model was made ready. work: inputs `start` to `stop` - 1 were computed; `units` of them, `rows` came
    out. idle: the device waited, for the host, for inputs or for other workers. training: a training, loading included.
    `device` is its name, empty where there is none; `worker` and `engine` (of the executor) say who held it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: str
    what: What
    seconds: float = Field(ge=0, allow_inf_nan=False)
    began: float = Field(ge=0, allow_inf_nan=False)
    units: int = Field(default=0, ge=0)
    rows: int = Field(default=0, ge=0)
    start: int | None = None
    stop: int | None = None
    device: str = ""
    worker: str = ""
    engine: str = "local"
    usage: Usage | None = None
    """What requests to models took within it."""


class DeviceLedger:
    """The pieces of device time of the run in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        self.added = StageTime()
        """The sum of what this object appended."""

    def add(self, *pieces: DeviceTime) -> None:
        """Append pieces, and have them on the disk before going on. Raises PrefmillError where the disk refuses."""
        if not pieces:
            return
        lines = "".join(f"\n{piece.model_dump_json(exclude_defaults=True)}" for piece in pieces) + "\n"
        try:
            with self.path.open("ab", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = file.seek(0, os.SEEK_END)
                data = lines.encode()
                if file.write(data) != len(data):  # a full disk took a part
                    os.ftruncate(file.fileno(), size)
                    file.write(data)
                os.fsync(file.fileno())
            for piece in pieces:
                self.added = self.added.plus(piece)
        except OSError as error:
            raise PrefmillError(
                f"cannot write {self.path}: {reason_of(error)}", "make room, then give the same command again"
            ) from error

    def __iter__(self) -> Iterator[DeviceTime]:
        """Yield what was written, in that order. Raises PrefmillError where the file cannot be read."""
        seen = set[bytes]()
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if line.strip() and line not in seen:
                        seen.add(line)
                        try:
                            yield DeviceTime.model_validate_json(line)
                        except ValidationError:  # cut short by a kill
                            continue
        except FileNotFoundError:
            return
        except OSError as error:
            raise PrefmillError(f"cannot read {self.path}: {reason_of(error)}", "correct its permissions") from error


@dataclass(frozen=True)
class StageTime:
    """A stage's device seconds by what they went to, and what came of them. `loads`: models made ready."""

    loading: float = 0.0
    work: float = 0.0
    idle: float = 0.0
    training: float = 0.0
    loads: int = 0
    units: int = 0
    rows: int = 0
    usage: Usage | None = None
    devices: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """All of them: what is paid for."""
        return self.loading + self.work + self.idle + self.training

    @property
    def rate(self) -> float | None:
        """Seconds of work for one input; None where nothing was measured."""
        return self.work / self.units if self.units and self.work else None

    @property
    def load(self) -> float:
        """Seconds that one model took to be made ready; 0 where none was."""
        return self.loading / self.loads if self.loads else 0.0

    def plus(self, piece: DeviceTime) -> StageTime:
        """Return the sum with a further piece."""
        usage = self.usage if piece.usage is None else (self.usage or Usage()) + piece.usage
        devices = self.devices if not piece.device else tuple(dict.fromkeys([*self.devices, piece.device]))
        return replace(
            self,
            loads=self.loads + (piece.what == "loading"),
            units=self.units + piece.units,
            rows=self.rows + piece.rows,
            usage=usage,
            devices=devices,
            **{piece.what: getattr(self, piece.what) + piece.seconds},
        )


def totals(pieces: Iterable[DeviceTime]) -> dict[str, StageTime]:
    """Return the sums by stage."""
    sums: dict[str, StageTime] = {}
    for piece in pieces:
        sums[piece.stage] = sums.get(piece.stage, StageTime()).plus(piece)
    return sums


def time_of_footers(dataset: Dataset[Any]) -> StageTime:
    """Return the work that a stage's shards say of themselves: those of earlier versions, which had no ledger."""
    time = StageTime()
    for shard, footer in dataset.footers():
        if footer.seconds:
            piece = DeviceTime(stage=dataset.name, what="work", seconds=footer.seconds, began=0, usage=footer.usage)
            time = time.plus(piece.model_copy(update={"units": shard.stop - shard.start}))
    return time
