"""Writing and naming files so that a reader, or a restart after a power cut, finds the old or the new, never a part.

Whatever is half written carries a name that begins with `TEMPORARY`: nothing reads it, and `remove_leftovers` clears
what a kill left.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import PrefmillError

TEMPORARY = ".tmp-"


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's entries, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a small text file whole. Raises PrefmillError when the file system refuses."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name to write a file under; it takes the place of `path` when the block ends well, else it is gone.

    Raises PrefmillError when the file system refuses (full disk, quota, permissions, a folder in the way).
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise PrefmillError(
            f"cannot write {path}: {error.strerror or error}",
            "make room or correct the permissions, then give the same command again",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def copy_folder(files: Sequence[Path], target: Path) -> None:
    """Put copies of files into a folder that appears with all of them at once. An older folder is replaced."""
    temporary = target.with_name(f"{TEMPORARY}{target.name}")
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
        shutil.rmtree(temporary, ignore_errors=True)
        raise PrefmillError(
            f"cannot write {target}: {error.strerror or error}",
            "make room or correct the permissions, then give the same command again",
        ) from error


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; what is not there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a kill left half written in a folder and in its sub-folders, files and folders alike."""
    for leftover in (*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"*/{TEMPORARY}*")):
        remove(leftover)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 in hex of a file's bytes, or of all files of a folder with their names."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listing = [f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n" for file in files]
        return hashlib.sha256("".join(listing).encode("utf-8", "surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
