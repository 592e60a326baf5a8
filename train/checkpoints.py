"""Checkpoints that are either complete or not there.

A checkpoint is a folder of many files, written by all processes; a kill leaves some of them. So the last thing
written is `complete.json`, which lists every file with its size: a folder without it, or with a file that differs
from it, is no checkpoint and is removed before a training continues.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.files import sync, write_text

MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: after which of how many steps, and what its writer said of itself."""

    path: Path
    step: int
    steps: int
    notes: dict[str, Any]

    @property
    def is_last(self) -> bool:
        """Return whether nothing is left to train."""
        return self.step >= self.steps


def mark_complete(folder: Path, step: int, steps: int, notes: dict[str, Any]) -> None:
    """Declare a checkpoint complete. Call it when every process has written its files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    for path in files:
        sync(path)
    body = {
        "step": step,
        "steps": steps,
        "notes": notes,
        "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
    }
    write_text(folder / MARKER, json.dumps(body, indent=1) + "\n")


def newest_complete(folder: Path) -> Checkpoint | None:
    """Return the complete checkpoint with the most steps, or None."""
    found = [checkpoint for path in _folders(folder) if (checkpoint := _read(path))]
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def remove_incomplete(folder: Path) -> list[str]:
    """Remove what a kill left half written, and return the names."""
    broken = [path for path in _folders(folder) if _read(path) is None]
    for path in broken:
        shutil.rmtree(path)
    return [path.name for path in broken]


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if path.is_dir() and _NAME.fullmatch(path.name)]


def _read(path: Path) -> Checkpoint | None:
    try:
        body = json.loads((path / MARKER).read_text(encoding="utf-8"))
        intact = all((path / name).stat().st_size == size for name, size in body["files"].items())
        return Checkpoint(path, body["step"], body["steps"], body["notes"]) if intact else None
    except (OSError, ValueError, KeyError):
        return None
