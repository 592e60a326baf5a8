"""Checkpoints that are either whole or not there.

A checkpoint is a folder of many files, written by all processes; a kill leaves some of them. So the last thing
written is `complete.json`, which lists every file with its size and SHA-256: a folder without it, or with a file that
differs from it, is no checkpoint and is removed before a training continues.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from ..base.errors import PrefmillError
from ..base.files import remove, sha256_of, sync, write_text
from .manifest import Backend

CHECKPOINTS = "checkpoints"
MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


class SavedFile(BaseModel):
    """What a file of a checkpoint was when it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: NonNegativeInt
    sha256: str


class CheckpointNotes(BaseModel):
    """What a checkpoint keeps for the manifest; `seconds` is the wall time so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    backend: Backend


class CheckpointRecord(BaseModel):
    """The content of complete.json: after which of how many steps; `files` are named from the folder on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: NonNegativeInt
    steps: PositiveInt
    notes: CheckpointNotes
    files: dict[str, SavedFile]


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint and what its writer said of it."""

    path: Path
    record: CheckpointRecord

    @property
    def step(self) -> int:
        """Return after how many steps it was written."""
        return self.record.step

    @property
    def notes(self) -> CheckpointNotes:
        """Return what its writer said of the training so far."""
        return self.record.notes

    @property
    def is_last(self) -> bool:
        """Return whether nothing is left to train."""
        return self.record.step >= self.record.steps

    def require_same(self, **now: str) -> None:
        """Raise PrefmillError where a training would continue in another way than it was begun in.

        `now` are values of fields of Backend as they are resolved here, where "auto" can mean something else. A GPU's
        model may change.
        """
        before = self.notes.backend.model_dump()
        before["device"] = "cpu" if before["device"] == "cpu" else "cuda"
        differing = [name for name, value in now.items() if before[name] not in ("", value)]
        changes = [f"{name} was {before[name]!r}, now {now[name]!r}" for name in differing]
        if changes:
            raise PrefmillError(
                f"{self.path} was made in another way: {'; '.join(changes)}",
                "continue where it was begun, with the same versions and settings, or choose another output folder",
            )


def mark_complete(folder: Path, step: int, steps: int, notes: CheckpointNotes) -> None:
    """Declare a checkpoint complete. Call it when every process has written its files."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER):
        sync(path)
        files[path.relative_to(folder).as_posix()] = SavedFile(size=path.stat().st_size, sha256=sha256_of(path))
    record = CheckpointRecord(step=step, steps=steps, notes=notes, files=files)
    write_text(folder / MARKER, record.model_dump_json(indent=1) + "\n")


def newest_complete(folder: Path) -> Checkpoint | None:
    """Return the checkpoint with the most steps whose files have their sizes, or None; their bytes are not read."""
    found = [Checkpoint(path, record) for path in _folders(folder) if (record := _complete(path))]
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def newest_intact(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the checkpoint to continue from, every byte of it checked, and a sentence on each that was removed.

    Removed is what a kill left half written, and what is newer than the one returned and has changed since. Raises
    PrefmillError for a file that cannot be read.
    """
    removed = []
    for path in _folders(folder):
        if _complete(path) is None:
            remove(path)
            removed.append(f"{path.name} was not written to its end and is removed")
    while newest := newest_complete(folder):
        changed = _changed(newest)
        if not changed:
            break
        remove(newest.path)
        removed.append(f"{newest.path.name} is damaged ({', '.join(changed)}) and is removed")
    return newest, removed


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*") if path.is_dir() and _NAME.fullmatch(path.name))


def _complete(path: Path) -> CheckpointRecord | None:
    try:
        record = CheckpointRecord.model_validate_json((path / MARKER).read_bytes())
        whole = all((path / name).stat().st_size == file.size for name, file in record.files.items())
    except (OSError, ValueError):
        return None
    return record if whole else None


def _changed(checkpoint: Checkpoint) -> list[str]:
    files = checkpoint.record.files.items()
    try:
        return [name for name, file in files if sha256_of(checkpoint.path / name) != file.sha256]
    except OSError as error:
        raise PrefmillError(
            f"{error.filename} cannot be read: {error.strerror or error}",
            f"correct its permissions, or delete {checkpoint.path} to continue from the checkpoint before it",
        ) from error
