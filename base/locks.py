"""Locks that the kernel holds: they die with their last holder, also after SIGKILL."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path, busy: Exception | None = None) -> Iterator[int]:
    """Hold a lock and yield its descriptor; a process that inherits that holds the lock as well.

    Raises `busy` when another process holds the lock; without `busy`, waits.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except OSError:
            if busy:
                raise busy from None
            raise
        yield file.fileno()
