"""Writing, reading and naming files so that a reader, or a restart after a power cut, finds the old or the new.

Whatever is half written carries a name that begins with `TEMPORARY`: nothing reads it, the next attempt writes over
it, and `remove_leftovers` clears it. Two processes that write the same file are kept apart by a lock (`locks.py`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import PrefmillError

TEMPORARY = ".tmp-"


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's entries, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems know no such call for folders; for files they all do
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def read_text(path: Path, fix: str) -> str | None:
    """Return a text file's content, None where there is no such file.

    Raises PrefmillError, ending with `fix`, where it cannot be read as UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PrefmillError(f"cannot read {path}: {reason_of(error)}", fix) from error


def write_text(path: Path, text: str) -> None:
    """Replace a small text file whole. Raises PrefmillError when the file system refuses.

    What UTF-8 cannot hold (half a surrogate pair, from a file name that is not UTF-8) is written as JSON's escape.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def replacing(path: Path, named: Callable[[Path], Path] | None = None) -> Iterator[Path]:
    """Yield the name to write a file under; it takes the place of `path` when the block ends well, else it is gone.

    `named` chooses the final path from what was written, for a file that is named by its content.
    Raises PrefmillError when the file system refuses (full disk, quota, permissions, a folder in the way).
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    with _refused(path):
        try:
            remove(temporary)
            yield temporary
            sync(temporary)
            final = named(temporary) if named else path
            temporary.replace(final)
            sync(final.parent)
        finally:
            with contextlib.suppress(OSError):
                remove(temporary)


def move(path: Path, target: Path) -> None:
    """Give a written file its final name, for good. Raises PrefmillError when the file system refuses."""
    with _refused(target):
        path.replace(target)
        sync(target.parent)


def copy_folder(files: Sequence[Path], target: Path) -> None:
    """Put copies of files into a folder that appears with all of them at once. An older folder is replaced.

    Raises PrefmillError when the file system refuses; the older folder stays then.
    """
    temporary, outdated = (target.with_name(f"{TEMPORARY}{prefix}{target.name}") for prefix in ("", "old-"))
    with _refused(target):
        try:
            remove(temporary)
            temporary.mkdir(parents=True)
            for file in files:
                shutil.copyfile(file, temporary / file.name)
                sync(temporary / file.name)
            sync(temporary)
            remove(outdated)
            if target.exists() or target.is_symlink():
                target.replace(outdated)  # one step: a folder that is removed file by file is a part for a while
            try:
                temporary.replace(target)
            except OSError:
                outdated.replace(target)
                raise
            sync(target.parent)
        finally:
            with contextlib.suppress(OSError):
                remove(temporary)
                remove(outdated)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there. Raises PrefmillError when the system refuses."""
    with _refused(path):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; what is not there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a kill left half written in a folder, files and folders alike. Sub-folders are left alone.

    Raises PrefmillError when the file system refuses.
    """
    with _refused(folder):
        for leftover in folder.glob(f"{TEMPORARY}*"):
            remove(leftover)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 in hex of a file's bytes, or of all files of a folder with their names."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listing = [f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n" for file in files]
        return hashlib.sha256("".join(listing).encode("utf-8", "surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason_of(error: Exception) -> str:
    """Return in words why a file could not be read or written, without the path."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (byte {error.start})"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Turn the file system's refusal, and a name that no file system takes, into the error that names the path."""
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error
    try:
        yield
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> PrefmillError:
    return PrefmillError(
        f"cannot write {path}: {reason_of(error)}",
        "make room, correct the permissions or choose another place, then give the same command again: "
        "what was finished before is kept",
    )
