"""What the end of every training has in common: its last checkpoint, the adapter out of it, and what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.files import copy_folder
from ..base.versions import package_versions
from ..engine.responders.adapter import CONFIG, WEIGHTS, check_files
from .checkpoints import Checkpoint, newest_complete
from .curves import Panels, write_curves
from .events import say
from .manifest import ADAPTER, Backend


def last_checkpoint(checkpoints: Path) -> Checkpoint:
    """Return the checkpoint after the last step. Raises PrefmillError where it is missing."""
    last = newest_complete(checkpoints)
    if last is None or not last.is_last:
        raise PrefmillError(f"{checkpoints} lacks the last checkpoint", "give the same command again: it continues")
    return last


def copy_adapter(last: Checkpoint, output: Path) -> dict[str, str]:
    """Copy a checkpoint's adapter to its place; return its digests by the manifest's names.

    Raises PrefmillError where the copy is not the checkpoint's.
    """
    digests = {name: last.record.files[name].sha256 for name in (WEIGHTS, CONFIG)}
    copy_folder([last.path / name for name in digests], output / ADAPTER)
    check_files(output / ADAPTER, digests, "check the disk, then give the same command again: it copies it anew")
    return {"adapter_sha256": digests[WEIGHTS], "adapter_config_sha256": digests[CONFIG]}


def with_curves(backend: Backend, output: Path, panels: Panels) -> Backend:
    """Draw the curves; return the backend, with a note of what kept them from being drawn."""
    undrawn = write_curves(output, panels)
    if not undrawn:
        return backend
    say(output, undrawn)
    return backend.model_copy(update={"notes": (*backend.notes, undrawn)})


def spent(last: Checkpoint, lines: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return what a manifest says of time and place; `lines` are those of metrics.jsonl."""
    from ..engine.device import hardware_description

    seconds = sum(line["seconds"] + line.get("eval_seconds", 0) for line in lines)
    return {
        "steps": last.step,
        "seconds": round(last.notes.seconds, 3),
        "device_seconds": round(seconds * last.notes.backend.processes, 3),
        "versions": package_versions(),
        "hardware": hardware_description(),
    }
