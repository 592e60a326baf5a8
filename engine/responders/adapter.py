"""A trained adapter on disk: its files, whether they still are what the training wrote, and its merge into a model.

A training leaves OUTPUT/adapter beside OUTPUT/manifest.json, which holds the SHA-256 of both files. An adapter whose
bits have changed still loads, as another model; so it is checked before it is used. One without that manifest above
it, from elsewhere, has nothing to be checked against.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...base.errors import PrefmillError
from ...base.extras import require_train_extra
from ...base.files import sha256_of

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MANIFEST = "manifest.json"
_DIGESTS = {WEIGHTS: "adapter_sha256", CONFIG: "adapter_config_sha256"}


Model = TypeVar("Model")


def merge_adapter(model: Model, folder: Path) -> Model:
    """A freshly loaded model with an adapter added to its weights; the model itself is used up.

    Raises PrefmillError for a folder without an adapter, one that `check_adapter` refuses, and an adapter that does not
    fit: every tensor of it has its place in the model, and every place its tensor.
    """
    require_train_extra("an adapter", ("peft",))
    from peft import PeftModel, get_peft_model_state_dict  # only trained models need it
    from safetensors import safe_open

    from ..checkpoint import summary
    from ..quiet import quiet_loading

    fix = "give the adapter folder of a training on this model"
    require_adapter(folder)
    base: Any = model
    try:
        with quiet_loading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is missing: that is the error below
            adapted = PeftModel.from_pretrained(base, str(folder), local_files_only=True, use_safetensors=True)
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            stored = set(file.keys())
        wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    except Exception as error:  # peft's and safetensors' reasons are many; all of them mean that it does not load
        raise PrefmillError(f"the adapter in {folder} does not fit the model: {summary(error)}", fix) from error
    if stored != wanted:  # peft takes what it finds
        kind, names = ("it lacks", wanted - stored) if wanted - stored else ("there is no place for", stored - wanted)
        raise PrefmillError(f"the adapter in {folder} does not fit the model: {kind} {min(names)}.", fix)
    return adapted.merge_and_unload()  # type: ignore[operator]  # a module, by the library's annotation


def require_adapter(folder: Path) -> None:
    """Raise PrefmillError for a folder without an adapter's config, and one that `check_adapter` refuses."""
    check_adapter(folder)
    if not (folder / CONFIG).is_file():
        raise PrefmillError(
            f"{folder} holds no adapter: there is no {CONFIG}.", "give a folder written by peft's save_pretrained"
        )


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
