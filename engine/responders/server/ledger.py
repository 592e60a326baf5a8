"""A file of JSON lines that only grows, for what must survive a kill at any instruction.

A line is written in one step before `append` returns, so that it survives the process; `sync`, at most once a second by
itself, has it survive a power cut. A kill can tear the last line: it is passed over, and the next one begins anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ....base.files import make_folder, reason_of, sync

_SYNC_SECONDS = 1.0


class Ledger:
    """One such file, opened for appending. Raises PrefmillError where it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        try:
            self._file = path.open("a+b", buffering=0)
            self._end = self._file.seek(0, os.SEEK_END)
            sync(path.parent)
            if self._end:
                self._file.seek(self._end - 1)
                if self._file.read(1) != b"\n":
                    self._write(b"\n")
        except OSError as error:
            raise self._refusal(error) from error
        self._unsynced, self._synced = False, time.monotonic()

    def lines(self) -> Iterator[tuple[int, Any]]:
        """Yield the place and the value of every whole line."""
        place = 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    value = _value(line)
                    if value is not None:
                        yield place, value
                    place += len(line)
        except OSError as error:
            raise self._refusal(error) from error

    def read(self, place: int) -> Any:
        """Return the value of the line at a place; None where there is none any more."""
        try:
            with self.path.open("rb") as file:
                file.seek(place)
                return _value(file.readline())
        except OSError as error:
            raise self._refusal(error) from error

    def append(self, value: Any) -> int:
        """Write a line, and return its place."""
        place = self._end
        try:
            self._write(json.dumps(value).encode() + b"\n")
        except OSError as error:
            raise self._refusal(error) from error
        self._unsynced = True
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()
        return place

    def sync(self) -> None:
        """Have all lines on the disk before going on."""
        if self._unsynced:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._refusal(error) from error
            self._unsynced, self._synced = False, time.monotonic()

    def close(self) -> None:
        """Have all lines on the disk, and let go of the file."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def _write(self, data: bytes) -> None:
        while data:  # a full disk takes a part of it, and refuses the rest
            written = self._file.write(data)
            self._end += written
            data = data[written:]

    def _refusal(self, error: OSError) -> PrefmillError:
        return PrefmillError(
            f"the journal {self.path} cannot be used: {reason_of(error)}",
            "make room or correct the permissions, then give the same command again: what was answered is kept",
        )


def _value(line: bytes) -> Any:
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
