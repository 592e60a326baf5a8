"""Tables that come through a pipe: read once and whole into a temporary file, and from there like any other.

A table is opened, looked at and read several times; from a pipe each of these would take rows away from the next.
"""

from __future__ import annotations

import os
import select
import shutil
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from ..errors import PrefmillError

PATIENCE = 10.0  # seconds to wait for somebody to open a named pipe for writing

_spools: dict[tuple[int, int, int], IO[bytes]] = {}  # as long as the process lives, since no pipe can be read again
_lock = threading.Lock()


def spooled(path: Path, option: str) -> Path:
    """Return a regular file as it is, and a file with all that a pipe held for a pipe, the same one when asked again.

    Raises PrefmillError for what is neither, for a pipe that nobody writes to, and when the copy finds no room.
    """
    if path.is_file():
        return path
    if not path.is_fifo():
        raise PrefmillError(f"{option} {path} is neither a file nor a pipe", f"give {option} a file")
    with _lock:
        try:
            if (key := _key(path)) not in _spools:
                spool = _copied(path, option)
                _spools[key := _key(path)] = spool  # the time of the last write is part of the key
            return Path(_spools[key].name)
        except OSError as error:
            raise PrefmillError(
                f"cannot keep what comes through {path}: {error.strerror or error}",
                f"write it to a file first, and give that to {option}",
            ) from error


def _key(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    assert stat.S_ISFIFO(status.st_mode)
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _copied(path: Path, option: str) -> IO[bytes]:
    spool = tempfile.NamedTemporaryFile(prefix="prefmill-")  # noqa: SIM115 - kept open in `_spools`
    # not blocking: opening a named pipe to read would wait for ever where nobody opens it to write
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as pipe:
        spool.write(_first_bytes(descriptor, path, option))
        os.set_blocking(descriptor, True)
        shutil.copyfileobj(pipe, spool)
    spool.flush()
    return spool


def _first_bytes(descriptor: int, path: Path, option: str) -> bytes:
    """Wait for a writer; return what was read on the way, mostly nothing."""
    deadline = time.monotonic() + PATIENCE
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while time.monotonic() < deadline:
        if poll.poll(50):  # there is something to read, or the writers have been and gone
            return b""
        try:
            if data := os.read(descriptor, 1 << 16):
                return data
        except BlockingIOError:  # somebody has it open and is still silent: that may last as long as it likes
            return b""
    raise PrefmillError(
        f"nobody has written to the pipe {path} for {PATIENCE:.0f} seconds",
        f"start its writer, or give {option} a file",
    )
