"""A trained adapter on disk: its files, and whether they still are what the training wrote.

A training leaves OUTPUT/adapter beside OUTPUT/manifest.json, which holds the SHA-256 of both files. An adapter whose
bits have changed still loads, as another model; so it is checked before it is used. One without that manifest above
it, from elsewhere, has nothing to be checked against.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ...base.errors import PrefmillError
from ...base.files import sha256_of

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MANIFEST = "manifest.json"
_DIGESTS = {WEIGHTS: "adapter_sha256", CONFIG: "adapter_config_sha256"}


def check_adapter(folder: Path) -> None:
    """Compare an adapter with the manifest of its training, where there is one in the folder above.

    Raises PrefmillError for a manifest that cannot be read, and for a file that is missing or has changed.
    """
    manifest = folder.absolute().parent / MANIFEST
    if not manifest.exists():
        return
    try:
        told = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PrefmillError(
            f"the adapter {folder} cannot be checked: {manifest} is damaged",
            f"restore {manifest} from a copy, or train again into another folder",
        ) from error
    if not isinstance(told, dict):
        return
    check_files(
        folder,
        {name: str(told[key]) for name, key in _DIGESTS.items() if key in told},
        f"restore {folder} from a copy, or delete {manifest} and give the command that trained it again",
    )


def check_files(folder: Path, digests: Mapping[str, str], fix: str) -> None:
    """Raise PrefmillError, ending in `fix`, for a file of the folder that is missing or has another SHA-256."""
    for name, digest in digests.items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise PrefmillError(f"{folder / name} cannot be read ({error.strerror or error})", fix) from error
        if found != digest:
            raise PrefmillError(
                f"{folder / name} is damaged: its SHA-256 is {found[:12]}, and {digest[:12]} was written", fix
            )
