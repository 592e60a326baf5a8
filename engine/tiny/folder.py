"""Put a built checkpoint in its place whole or not at all, and leave it alone when it is already there."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..quiet import quiet_loading

RECIPE = 3
"""Raise it whenever a builder's output changes: folders of another recipe are built anew."""

MARKER = "RANDOM_WEIGHTS.md"


def build_once(folder: Path, seed: int, variant: str, build: Callable[[Path], None]) -> Path:
    """Let `build` fill a temporary folder beside `folder`, then move it there in one step.

    A killed build leaves no half folder behind under the final name. A folder of the same recipe, variant and seed
    is kept as it is. Two builders at once are harmless: the first one's folder stays.
    """
    folder = folder.expanduser().absolute()
    marker = _marker_text(seed, variant)
    if _is_current(folder, marker):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        with quiet_loading():
            build(fresh)
        (fresh / MARKER).write_text(marker, encoding="utf-8")
        if folder.exists() and not _is_current(folder, marker):
            folder.replace(Path(temporary) / "outdated")
        with contextlib.suppress(OSError):  # another builder was faster
            fresh.replace(folder)
        if not _is_current(folder, marker):
            raise OSError(f"could not put the built checkpoint at {folder}")
    return folder


def _is_current(folder: Path, marker: str) -> bool:
    path = folder / MARKER
    return path.is_file() and path.read_text(encoding="utf-8") == marker


def _marker_text(seed: int, variant: str) -> str:
    return (
        "# Random weights\n\n"
        "This checkpoint has the real architecture at a tiny size and **random weights**. It was never trained:\n"
        "its output exercises programs and means nothing.\n\n"
        f"- variant: {variant}\n- seed: {seed}\n- recipe: {RECIPE}\n"
    )
