"""After a training: base and adapter as one ordinary checkpoint, which needs neither peft nor us.

The base's weight files are read and written tensor by tensor, W + (alpha / r) B A where the adapter has something to
say, in float32 and then in the file's type. So the memory is that of one weight file, and names (but for one that vLLM
wants longer), shapes and split of the files stay the base's own: whatever loads the base loads the result.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..base.errors import PrefmillError
from ..base.files import make_folder, write_text
from ..engine.checkpoint import check_weight_files, checkpoint_key, read_config, weight_names
from ..engine.responders.adapter import CONFIG, WEIGHTS, check_adapter
from ..engine.responders.vllm.servable import published_name, rename_in_index
from ..engine.sources import resolve_checkpoint
from .manifest import ADAPTER, MANIFEST, AdapterManifest, read_manifest

MERGED = "merged.json"
_ORDINARY = {".json", ".txt", ".model", ".jinja"}
_PREFIX = "base_model.model."
# The language model's name in today's class, and what checkpoints call it: the hub's, and those that were saved newly.
_NAMES = {
    "model.language_model.": ("language_model.model.", "model.language_model.", "model."),
    "model.text_model.": ("model.text_model.",),
}
_PLAIN = {"use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, "fan_in_fan_out": False}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def merge(
    output: Path,
    folder: Path,
    *,
    base: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
) -> AdapterManifest:
    """Write a training's base with its adapter merged into `folder`, which appears whole or not at all.

    `base` is where the base lies now, by default where the training found it; `dtype` None keeps the files' own types.
    Raises PrefmillError for a training that is not finished, a damaged adapter, another base, a folder that is there.
    """
    manifest = read_manifest(output)
    if manifest is None:
        raise PrefmillError(
            f"{output} holds no finished training ({MANIFEST})", "give the folder that training printed"
        )
    if folder.exists():
        raise PrefmillError(f"{folder} is already there", "choose another folder, or remove it")
    check_adapter(output / ADAPTER)
    source = resolve_checkpoint(base or manifest.base_model)
    if (found := checkpoint_key(source)) != manifest.base_model_key:
        raise PrefmillError(
            f"the adapter was trained on {manifest.base_model_key}, and {base or manifest.base_model} is {found}",
            "give the base that it was trained on with --base FOLDER",
        )
    check_weight_files(source)
    updates = _Updates(output / ADAPTER, source)
    make_folder(folder.absolute().parent)
    with tempfile.TemporaryDirectory(prefix=".merging-", dir=folder.absolute().parent) as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        for path in sorted(source.iterdir()):
            if path.suffix == ".safetensors":
                _write(path, fresh / path.name, updates, DTYPES[dtype] if dtype else None)
            elif path.suffix in _ORDINARY:
                shutil.copyfile(path, fresh / path.name)
        updates.require_used()
        rename_in_index(fresh)
        if dtype:
            _say_dtype(fresh, dtype)
        told = {"base_model": manifest.base_model, "base_model_key": manifest.base_model_key}
        told |= {"adapter_sha256": manifest.adapter_sha256, "dtype": dtype or "as the base"}
        write_text(fresh / MERGED, json.dumps(told, indent=1) + "\n")
        fresh.replace(folder)
    return manifest


class _Updates:
    """What the adapter adds, by the names of the base's files."""

    def __init__(self, adapter: Path, source: Path) -> None:
        config = read_config(adapter, CONFIG)
        odd = [name for name, plain in _PLAIN.items() if config.get(name, plain) not in (plain, None)]
        if odd or config.get("modules_to_save") or config.get("bias", "none") != "none":
            raise PrefmillError(
                f"{adapter} is no plain LoRA ({', '.join(odd) or 'bias, modules_to_save'})", "merge it with peft"
            )
        self.scale = config["lora_alpha"] / config["r"]
        self.adapter = adapter
        names = weight_names(source)
        self.modules: dict[str, str] = {}
        with safe_open(adapter / WEIGHTS, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  # no mapping
                if match := re.fullmatch(rf"{re.escape(_PREFIX)}(.*)\.lora_A\.weight", key):
                    self.modules[_stored_name(match[1], names, source)] = match[1]
        self.left = set(self.modules)

    def apply(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the base with what the adapter adds to it, in float32 where that is something."""
        if name not in self.modules:
            return weight
        self.left.discard(name)
        module = f"{_PREFIX}{self.modules[name]}"
        with safe_open(self.adapter / WEIGHTS, framework="pt") as file:
            down, up = (file.get_tensor(f"{module}.lora_{side}.weight").float() for side in "AB")
        if (len(up), down.shape[1]) != tuple(weight.shape):
            raise PrefmillError(
                f"{name} is {list(weight.shape)}, the adapter's {[len(up), down.shape[1]]}", "train again"
            )
        return weight.float() + self.scale * (up @ down)

    def require_used(self) -> None:
        """Raise PrefmillError for a part of the adapter that no weight took."""
        if self.left:
            raise PrefmillError(f"the base has no weight {min(self.left)}", "check the base model's folder")


def _stored_name(module: str, names: set[str], source: Path) -> str:
    for prefix, stored in _NAMES.items():
        if module.startswith(prefix):
            found = [f"{one}{module.removeprefix(prefix)}.weight" for one in stored]
            if known := [name for name in found if name in names]:
                return known[0]
    raise PrefmillError(f"no weight file of {source} holds {module}", "check the base model's folder")


def _write(path: Path, target: Path, updates: _Updates, dtype: torch.dtype | None) -> None:
    tensors = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # no mapping
            stored = file.get_tensor(name)
            wanted = dtype if dtype and stored.is_floating_point() else stored.dtype
            tensors[published_name(name)] = updates.apply(name, stored).to(wanted).contiguous()
        metadata: Mapping[str, str] = file.metadata() or {"format": "pt"}
    save_file(tensors, target, metadata=dict(metadata))


def _say_dtype(folder: Path, dtype: str) -> None:
    config = read_config(folder)
    for part in (config, config.get("text_config"), config.get("vision_config")):
        if isinstance(part, dict):
            part.pop("torch_dtype", None)
            part["dtype"] = dtype
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    for index in folder.glob("*.safetensors.index.json"):
        content: dict[str, Any] = read_config(folder, index.name)
        sizes = [_bytes(path) for path in folder.glob("*.safetensors")]
        content.setdefault("metadata", {})["total_size"] = sum(sizes)
        write_text(index, json.dumps(content, indent=2) + "\n")


def _bytes(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        tensors = (file.get_tensor(name) for name in file.keys())  # noqa: SIM118  # no mapping
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
