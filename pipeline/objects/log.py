"""The log of a shared run: numbered records, each created once and only where there is none of its number.

    log/000000000001.json      {"token": ..., "whole": true, "files": {"run.yaml": {...}}, "gone": []}
    log/000000000002.json      ...
    staged/000000000001/5f0c…  the bytes of a file, which are no part of the run until a record names them

A run is what its records say, one after the other: which file has which bytes, and which is gone. Whoever takes the run
over first writes a record, its fence. A coordinator that was given up for dead and writes later wants that number too,
does not get it, and so knows. Nothing it has put is ever seen, whatever its clock says or its lease said.

A fence's number is the epoch of all that its writer stages. What an earlier epoch staged and no record up to the fence
names can never be named any more, so it can be swept. Records are kept: they are small, and a number that is free again
would let a late one in.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...base.errors import PrefmillError
from .bucket import Bucket

LOG, STAGED_OBJECTS = "log", "staged"
WHOLE_EVERY = 64
"""A reader needs the last whole record and those after it."""
_RECORD = re.compile(rf"{LOG}/([0-9]{{12}})\.json")


class LeaseLost(PrefmillError):
    """Another coordinator has taken the run over."""


class Entry(BaseModel):
    """A file's bytes: the object that holds them, their number and their SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    object: str = Field(pattern=rf"^{STAGED_OBJECTS}/[0-9]{{12}}/[0-9a-f]{{32}}$")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


_Path = Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f.][^/\\\x00-\x1f]*(/[^/\\\x00-\x1f.][^/\\\x00-\x1f]*)*$")]
"""Of a file in the run's folder: no part is empty or begins with a dot, so it can lead nowhere else."""


class LogRecord(BaseModel):
    """What a commit changed; all there is where it is `whole`. `token` is its writer's, `id` this record's own."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    token: str
    id: str
    whole: bool = False
    files: dict[_Path, Entry] = {}
    gone: list[_Path] = []


class Log:
    """The records at an address, and the files they amount to as far as this object has read or written them."""

    def __init__(self, bucket: Bucket, token: str = "") -> None:
        self.bucket, self.token = bucket, token
        self.position = 0
        """The number of the last record known; 0 where there is none."""
        self.writer = ""
        """The token of the last record's writer."""
        self.files: dict[str, Entry] = {}
        self.epoch = 0
        """The number of our fence."""

    def read(self) -> None:
        """Read what there is. Raises PrefmillError where records are damaged or missing."""
        numbers = [int(match[1]) for name in self.bucket.names(LOG) if (match := _RECORD.fullmatch(name))]
        if numbers != list(range(1, len(numbers) + 1)):
            raise self._damaged("its records are not all there")
        if len(numbers) < self.position:
            raise self._damaged("records have vanished")
        pending = list[LogRecord]()
        for number in reversed(numbers):
            if number == self.position and self.position:
                break
            pending.append(self._record(number))
            if pending[-1].whole:
                break
        for record in reversed(pending):
            self._apply(record)
        self.position = len(numbers)

    def fence(self) -> str:
        """Write a record after which no earlier writer can write; return the token of who wrote last before it."""
        while True:
            self.read()
            before = self.writer
            if self._create(LogRecord(token=self.token, id=uuid.uuid4().hex, whole=True, files=self.files)):
                self.epoch = self.position
                return before

    def append(self, files: Mapping[str, Entry], gone: Collection[str]) -> None:
        """Commit. Raises LeaseLost where another has written since our last record."""
        after = {path: entry for path, entry in (self.files | dict(files)).items() if path not in gone}
        whole = (self.position + 1) % WHOLE_EVERY == 0
        given = after if whole else dict(files)
        record = LogRecord(token=self.token, id=uuid.uuid4().hex, whole=whole, files=given, gone=sorted(gone))
        if not self._create(record):
            raise LeaseLost(
                f"{self.bucket.address} was taken over by another coordinator: what was made here since is not in it",
                "let that one finish; the same command then continues from what it left",
            )

    def sweep(self) -> int:
        """Remove what earlier epochs staged and nobody named; return how many objects. To be called after `fence`."""
        named = {entry.object for entry in self.files.values()}
        orphans = [
            name
            for name in self.bucket.names(STAGED_OBJECTS)
            if name not in named and name.split("/")[1] < f"{self.epoch:012d}"
        ]
        self.bucket.delete(orphans)
        return len(orphans)

    def staged_name(self) -> str:
        """Return a name of its own for bytes to be put."""
        return staged_name(self.epoch)

    def _create(self, record: LogRecord) -> bool:
        name, data = f"{LOG}/{self.position + 1:012d}.json", record.model_dump_json().encode()
        if self.bucket.create(name, data) is None:
            found = self.bucket.look(name)
            if found is None or found.data != data:  # else it was ours: the store's answer to a first try was lost
                return False
        self._apply(record)
        self.position += 1
        return True

    def _apply(self, record: LogRecord) -> None:
        before = {} if record.whole else self.files
        self.files = {path: entry for path, entry in (before | record.files).items() if path not in record.gone}
        self.writer = record.token

    def _record(self, number: int) -> LogRecord:
        name = f"{LOG}/{number:012d}.json"
        found = self.bucket.look(name)
        try:
            return LogRecord.model_validate_json(found.data if found else b"")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise self._damaged(f"{name}: {first['msg']}") from error

    def _damaged(self, why: str) -> PrefmillError:
        return PrefmillError(
            f"the log of {self.bucket.address} is damaged ({why})",
            "put back a copy of it, or begin the run again at another address",
        )


def staged_name(epoch: int) -> str:
    """Return a name of its own for bytes that are put in an epoch."""
    return f"{STAGED_OBJECTS}/{epoch:012d}/{uuid.uuid4().hex}"
