"""This machine's copy of a shared run: an ordinary run's folder, and a note of what in it the log has.

Rows are computed, committed and read in the folder as in any other; what follows compares it with the log. Left out
are locks, what is half written, what workers staged, and what was set aside (`_set-aside`, `_journal`, `_unpublished`):
that stays on the machine where it came about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from ...base.errors import PrefmillError
from ...base.files import make_folder, move, read_text, remove, sha256_of, write_text
from .bucket import Bucket
from .log import Entry

NOTE, LOCK = ".shared.json", ".shared.lock"
AT_ONCE = 8
"""Objects on their way at a time."""
_SHARED = re.compile(r"[^._\\][^\\]*|_manifest\.json")
"""Names of files and folders that are part of a run: nothing hidden, and nothing that is kept apart in it."""


class Stat(NamedTuple):
    """What tells whether a file was written since: bytes, nanoseconds, inode."""

    size: int
    modified: int
    inode: int


class Note(BaseModel):
    """`token` of the coordinator that last had this copy, empty for one that only followed."""

    model_config = ConfigDict(extra="ignore")

    address: str
    token: str = ""
    files: dict[str, tuple[Stat, str]] = {}
    """The stat and SHA-256 of each file when it was last hashed."""


class WorkingCopy:
    """The folder of a shared run on this machine."""

    def __init__(self, folder: Path, address: str) -> None:
        """Raises PrefmillError where the folder is the copy of another run."""
        self.folder = folder
        make_folder(folder)
        text = read_text(folder / NOTE, f"remove {folder / NOTE}")
        try:
            self.note = Note.model_validate_json(text) if text else Note(address=address)
        except ValidationError:  # its files are hashed again
            self.note = Note(address=address)
        if self.note.address != address:
            raise PrefmillError(
                f"{folder} is this machine's copy of {self.note.address}", "choose another folder with --work"
            )
        self.is_new = text is None
        self._published = {path: sha256 for path, (_, sha256) in self.note.files.items()}

    def scan(self) -> dict[str, Stat]:
        """Return the files that are part of the run, as they were all at one moment."""
        found = self._listed()
        while (again := self._listed()) != found:
            found = again
        return found

    def hashed(self, path: str, stat: Stat) -> str:
        """Return the SHA-256 of a file, which is read where it has another stat than before."""
        known = self.note.files.get(path)
        if known is None or known[0] != stat:
            self.note.files[path] = known = (stat, sha256_of(self.folder / path))
        return known[1]

    def differing(self, files: Mapping[str, Entry]) -> tuple[list[str], list[str], list[str]]:
        """Return the paths that are missing here, that have other bytes here, and that are only here."""
        there = self.scan()
        other = [path for path in files if path in there and self.hashed(path, there[path]) != files[path].sha256]
        return [path for path in files if path not in there], other, [path for path in there if path not in files]

    def unpublished(self, paths: Iterable[str]) -> list[str]:
        """Return those whose bytes are not what they were when this copy and the log last agreed."""
        there = self.scan()
        return [path for path in paths if self.hashed(path, there[path]) != self._published.get(path)]

    def fetch(self, bucket: Bucket, files: Mapping[str, Entry], paths: Collection[str]) -> list[str]:
        """Write files as the log has them; return those whose bytes are no longer there: the log has gone on."""

        def one(path: str) -> str:
            target = self.folder / path
            make_folder(target.parent)
            return "" if bucket.fetch(files[path].object, target, files[path].sha256) else path

        return [path for path in in_parallel(one, paths) if path]

    def put_aside(self, paths: Iterable[str], name: str) -> Path:
        """Move files out of the run, into a folder beside them that nothing reads."""
        for path in paths:
            target = self.folder / name / path
            make_folder(target.parent)
            move(self.folder / path, target)
        return self.folder / name

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files."""
        for path in paths:
            remove(self.folder / path)

    def write_note(self, token: str) -> None:
        """Note whose copy this is, and what is known of its files."""
        self.note = self.note.model_copy(update={"token": token})
        write_text(self.folder / NOTE, self.note.model_dump_json())

    def _listed(self) -> dict[str, Stat]:
        found, folders = dict[str, Stat](), [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.folder / folder) as entries:
                    for entry in entries:
                        if not (_SHARED.fullmatch(entry.name) and entry.name.isprintable()):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{folder}{entry.name}/")
                        elif entry.is_file(follow_symlinks=False):
                            stat = entry.stat(follow_symlinks=False)
                            found[f"{folder}{entry.name}"] = Stat(stat.st_size, stat.st_mtime_ns, stat.st_ino)
            except FileNotFoundError:  # gone since it was listed
                continue
        return found


def in_parallel(action: Callable[[str], str], paths: Collection[str]) -> list[str]:
    """Return what an action returns for each path, several at a time."""
    if not paths:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(paths)), "objects") as pool:
        return list(pool.map(action, paths))
