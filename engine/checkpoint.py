"""Model folders: find them, name them by content, and load them so that no weight is silently left at random.

Both model libraries warn and carry on when a weight is missing, superfluous or of the wrong shape. Here each of
these, and a cut file, is an error that names the folder and the key.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from ..base.errors import PrefmillError
from .quiet import quiet_loading

Model = TypeVar("Model")

_HASHED = {".safetensors", ".json", ".txt", ".model", ".jinja", ".pt", ".pth", ".bin"}
# Constant buffers that older library versions stored and newer ones compute.
_COMPUTED_BUFFERS = re.compile(r"(^|\.)(position_ids|inv_freq|original_inv_freq)$")
_SHOWN_KEYS = 5
_SHOWN_CHARACTERS = 300


def checkpoint_key(folder: Path, name: str | None = None) -> str:
    """`name@digest`: the digest covers names and contents of all model files, and not where the folder lies.

    `name` defaults to the model type that the folder's own config states.
    """
    files = sorted(
        (path for path in folder.rglob("*") if path.suffix in _HASHED and path.is_file() and not _hidden(path, folder)),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    if not files:
        raise PrefmillError(f"{folder} holds no model files.", "give a folder written by save_pretrained")
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(_sha256, files))
    total = hashlib.sha256()
    for path, digest in zip(files, digests, strict=True):
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return f"{name or _model_type(folder)}@{total.hexdigest()[:12]}"


def weight_names(folder: Path) -> set[str]:
    """The names of all tensors in a folder's weight files."""
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names.update(file.keys())
    return names


def load_strict(model_class: type[Model], folder: Path, *, dtype: torch.dtype | None = None, **kwargs: Any) -> Model:
    """Load a transformers or diffusers model; every weight must be there, in its shape, and no other.

    Raises PrefmillError for a missing or broken config, another architecture, missing, cut or foreign weight files,
    and missing, unexpected or wrong-shaped keys. Weights tied to others and computed buffers are no misses.
    """
    config = read_config(folder)
    _check_architecture(model_class, config, folder)
    check_weight_files(folder)
    is_diffusers = model_class.__module__.startswith("diffusers.")
    arguments: dict[str, Any] = {
        "torch_dtype" if is_diffusers else "dtype": dtype or torch.float32,
        "use_safetensors": True,
        "local_files_only": True,
        "output_loading_info": True,
        # Not to ignore them: to have them all in the report below, where the libraries would stop at the first.
        "ignore_mismatched_sizes": True,
        **kwargs,
    }
    try:
        with quiet_loading():
            loaded, report = model_class.from_pretrained(folder, **arguments)  # type: ignore[attr-defined]
    except PrefmillError:
        raise
    except Exception as error:  # each library has its own; all of them mean that this folder does not load
        raise PrefmillError(
            f"{folder} does not load as {model_class.__name__}: {summary(error)}", _redo(folder)
        ) from error
    raise_for_report(folder, report)
    loaded.eval()
    return loaded


def raise_for_report(folder: Path, report: dict[str, Any]) -> None:
    """Turn a loading report (missing_keys, unexpected_keys, mismatched_keys) into the error it stands for."""
    mismatched = [f"{key} is {list(stored)}, not {list(wanted)}" for key, stored, wanted in report["mismatched_keys"]]
    problems = []
    if mismatched:
        problems.append(f"wrong shape: {_some(mismatched)}")
    wrong_shaped = {entry[0] for entry in report["mismatched_keys"]}
    for kind in ("missing", "unexpected"):
        keys = [key for key in report[f"{kind}_keys"] if not _COMPUTED_BUFFERS.search(key) and key not in wrong_shaped]
        if keys:
            problems.append(f"{kind}: {_some(keys)}")
    if problems:
        raise PrefmillError(f"the weights in {folder} do not fit the model: {'; '.join(problems)}.", _redo(folder))


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The folder's config as a dictionary. Raises PrefmillError where it is missing or no JSON object."""
    path = folder / name
    if not folder.is_dir():
        raise PrefmillError(f"model folder {folder} does not exist.", _redo(folder))
    if not path.is_file():
        raise PrefmillError(f"{folder} has no {name}.", _redo(folder))
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:  # RecursionError: nested beyond all reason
        raise PrefmillError(f"{path} is not valid JSON: {summary(error)}", _redo(folder)) from error
    if not isinstance(config, dict):
        raise PrefmillError(f"{path} holds a {type(config).__name__}, not an object.", _redo(folder))
    return config


def check_weight_files(folder: Path) -> None:
    """Read the headers of all weight files. Raises PrefmillError where one is missing, cut or not safetensors."""
    files = set(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        files |= {folder / shard for shard in _shards(folder, index.name)}
    if not files:
        raise PrefmillError(f"{folder} has no .safetensors weight file.", _redo(folder))
    for path in sorted(files):
        if not path.is_file():
            raise PrefmillError(f"weight file {path} is missing, but the index names it.", _redo(folder))
        try:
            with safe_open(path, framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError, ValueError) as error:
            raise PrefmillError(
                f"weight file {path} is truncated or no safetensors file: {error}", _redo(folder)
            ) from error


def _shards(folder: Path, index: str) -> set[str]:
    """The weight files that an index names, all of them inside its folder."""
    stated = read_config(folder, index).get("weight_map")
    shards = set()
    for name in stated.values() if isinstance(stated, dict) else [[stated]]:
        # `PurePath.name` is the whole of a plain file name: no folder, no root, no way up
        if not isinstance(name, str) or "\0" in name or PurePath(name).name != name:
            raise PrefmillError(
                f"{folder / index} maps a weight to {str(name)[:80]!r}, which is no file name of its folder.",
                _redo(folder),
            )
        shards.add(name)
    return shards


def _check_architecture(model_class: type, config: dict[str, Any], folder: Path) -> None:
    found = config.get("_class_name") or config.get("model_type")
    if model_class.__module__.startswith("diffusers."):
        wanted = model_class.__name__
    else:
        wanted = getattr(getattr(model_class, "config_class", None), "model_type", None)
    if wanted and found != wanted:  # Auto classes have no single type; they check for themselves
        raise PrefmillError(
            f"{folder} holds a {found!r} model, expected {wanted!r}.", "point the setting at another folder"
        )


def _model_type(folder: Path) -> str:
    for name, field in (("model_index.json", "_class_name"), ("config.json", "model_type")):
        if (folder / name).is_file():
            return str(read_config(folder, name).get(field, "model"))
    return "model"


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _some(items: Iterable[str]) -> str:
    listed = sorted(items)
    more = f" and {len(listed) - _SHOWN_KEYS} more" if len(listed) > _SHOWN_KEYS else ""
    return ", ".join(listed[:_SHOWN_KEYS]) + more


def summary(error: BaseException) -> str:
    """The error's text on one line of bearable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."


def _redo(folder: Path) -> str:
    return f"delete {folder} and download or build it again"
