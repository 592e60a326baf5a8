"""Writing files so that a reader, or a restart after a power cut, finds the old or the new, never a part."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..engine.errors import PrefmillError


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's entries, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a text file. Raises PrefmillError when the file system refuses."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PrefmillError(
            f"cannot write {path}: {error.strerror or error}", "make room or correct the permissions, then start again"
        ) from error


def copy_folder(files: list[Path], target: Path) -> None:
    """Put copies of files into a folder that appears with all of them at once. An older folder is replaced."""
    temporary = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, temporary / file.name)
            sync(temporary / file.name)
        sync(temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        raise PrefmillError(
            f"cannot write {target}: {error.strerror or error}",
            "make room or correct the permissions, then start again",
        ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(path: Path, busy: PrefmillError | None = None) -> Iterator[int]:
    """Hold a lock and yield its descriptor; a process that inherits that holds the lock as well.

    Raises `busy` when another process holds the lock; without `busy`, waits. The lock dies with its last holder.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except OSError:
            if busy:
                raise busy from None
            raise
        yield file.fileno()
