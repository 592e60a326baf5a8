"""Locks that the kernel holds: they die with their last holder, also after SIGKILL. A lock's file says who holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path, busy: Exception | None = None) -> Iterator[int]:
    """Hold a lock and yield its descriptor; a process that inherits that holds the lock as well.

    Raises `busy` when another process holds the lock; without `busy`, waits. Raises OSError where the file cannot be
    opened, or the file system has no locks.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except OSError as error:
            if busy and error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise busy from None
            raise
        with contextlib.suppress(OSError):  # only for people: a full disk does not keep anybody from the lock
            file.truncate(0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield file.fileno()


def holder_of(path: Path) -> str:
    """Return who holds a lock, or was its last holder, in words."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(200).decode(errors="replace").strip() or "another process"
    return "another process"
