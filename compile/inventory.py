"""What a folder of engines holds, whether anything here could load it, and the removal of what nothing can.

The folder is a cache that several environments and machines may share, and that a user may have pointed anywhere: what
is no artifact of ours is named and never touched, and an engine for another device, or for a backend that is not
installed, is somebody's.
"""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ..base.errors import PrefmillError
from ..base.files import TEMPORARY, reason_of, remove
from ..base.locks import exclusive
from ..engine.artifact import MANIFEST, Artifact, mismatch, source_digest, versions_for
from ..engine.backends.catalogue import ENGINES
from ..engine.device import device_target
from .build import lock_of

_NAME = re.compile(rf"({re.escape(TEMPORARY)})?\w+-[0-9a-f]{{16}}")
_DAY = 86_400.0


@dataclass(frozen=True)
class Holding:
    """One folder. `obstacle` says why nothing here can load it; empty: it can, where the weights are the same."""

    folder: Path
    artifact: Artifact | None
    obstacle: str
    useless: bool
    """It is ours, and nothing here will ever load it."""
    bytes: int
    modified: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        known = self.artifact.model_dump(mode="json", exclude={"parity", "files"}) if self.artifact else {}
        found = {"folder": str(self.folder), "bytes": self.bytes, "obstacle": self.obstacle, "useless": self.useless}
        return {**found, "worst": self.worst, **known}

    @property
    def worst(self) -> float | None:
        """The largest relative error of its verification."""
        rows = self.artifact.parity if self.artifact else ()
        return max((row.maximum_relative_error for row in rows), default=None)


def holdings(root: Path, device: torch.device) -> list[Holding]:
    """Every folder in `root`, in the order of names; sizes of files are compared, their bytes are not read.

    Raises PrefmillError where the folder cannot be read; one that is not there holds nothing.
    """
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.exists() else []
    except OSError as error:
        raise PrefmillError(f"cannot read {root}: {reason_of(error)}", "--set engine.artifacts=FOLDER") from error
    return [_holding(folder, device) for folder in folders]


def prune(found: list[Holding], older_than: float = 0.0, *, dry_run: bool = False) -> list[Holding]:
    """Remove what is useless and at least so many days old; return what was, or would be, removed.

    One that somebody is building is left alone. Raises PrefmillError where the file system refuses.
    """
    removed = []
    for holding in found:
        if not holding.useless or time.time() - holding.modified < older_than * _DAY:
            continue
        folder = holding.folder
        try:
            busy = BlockingIOError()
            with exclusive(lock_of(folder.parent, folder.name.removeprefix(TEMPORARY)), busy):
                if not dry_run:
                    remove(folder)
            removed.append(holding)
        except BlockingIOError:
            continue
        except OSError as error:
            raise PrefmillError(f"cannot remove {folder}: {reason_of(error)}", "correct its permissions") from error
    return removed


def _holding(folder: Path, device: torch.device) -> Holding:
    artifact, obstacle, useless = None, "", False
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    ours = _NAME.fullmatch(folder.name) is not None
    if folder.name.startswith(TEMPORARY):
        obstacle, useless = ("is half written", True) if ours else ("is no engine of ours", False)
    elif '"specification"' not in text:
        obstacle = "is no engine of ours: it has no manifest of one"
    else:
        try:
            artifact = Artifact.model_validate_json(text)
            obstacle, useless = _obstacle(folder, artifact, device)
        except ValidationError:
            obstacle, useless = f"{_unread(text)}", ours
    return Holding(folder, artifact, obstacle, useless, *_extent(folder))


def _unread(text: str) -> str:
    try:
        found = json.loads(text)
        unknown = sorted(found.keys() - Artifact.model_fields.keys())
    except (ValueError, AttributeError):
        return "is damaged: its manifest is no JSON object"
    said = f" (it has {', '.join(unknown[:3])})" if unknown else ""
    return f"has a manifest of another version of Prefmill{said}"


def _obstacle(folder: Path, artifact: Artifact, device: torch.device) -> tuple[str, bool]:
    """Why an engine cannot be loaded here, and whether that is for good."""
    backend, target = artifact.identity.backend, device_target(device)
    for name, entry in artifact.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            return f"is damaged: {name} is missing, or not whole", True
    versions = versions_for(backend)
    if backend not in ENGINES or "not installed" in versions.values():
        return f"needs the backend {backend}, which is not installed here", False
    here = artifact.identity.model_copy(update={"source": source_digest(), "versions": versions})
    for_good = here != artifact.identity or (bool(artifact.parity) and target in artifact.targets)
    found = mismatch(artifact, here, target)
    if found.startswith("has another source"):
        found = "was traced from other code of Prefmill"
    return found, bool(found) and for_good


def _extent(folder: Path) -> tuple[int, float]:
    """Bytes in a folder, and when something in it last changed; links are not followed."""
    size, modified = 0, folder.lstat().st_mtime
    if not folder.is_symlink():
        for path in folder.rglob("*"):
            entry = path.lstat()
            size, modified = size + (0 if path.is_dir() else entry.st_size), max(modified, entry.st_mtime)
    return size, modified
