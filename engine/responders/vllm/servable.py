"""A checkpoint as vLLM reads it: names of weights as they were published, and an adapter merged in.

Today's transformers leaves the CLIP tower's inner name out when it saves, and reads both; vLLM knows the longer one
alone. What is fit to serve is served where it lies. Of everything else a copy is written once, into the cache, under a
name made of the contents.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, PreTrainedModel

from ....base.files import make_folder, write_text
from ...checkpoint import check_weight_files, checkpoint_key, load_strict, read_config, weight_names
from ...settings import cache_folder
from ..adapter import merge_adapter

_CLIP_PART = re.compile(r"^((?:model\.)?vision_tower\.)(?=(?:embeddings|encoder|pre_layrnorm|post_layernorm)\.)")
_BESIDE = {".json", ".txt", ".model", ".jinja"}
_INDEX = "*.safetensors.index.json"


def published_name(name: str) -> str:
    """The name of a weight as checkpoints on the hub have it, and vLLM wants it."""
    return _CLIP_PART.sub(r"\1vision_model.", name)


def rename_in_index(folder: Path) -> None:
    """Give the index of a folder's weight files the published names, where there is one."""
    for index in folder.glob(_INDEX):
        content = read_config(folder, index.name)
        content["weight_map"] = {published_name(name): file for name, file in content["weight_map"].items()}
        write_text(index, json.dumps(content, indent=2) + "\n")


def servable(folder: Path, adapter: Path | None, dtype: torch.dtype) -> tuple[Path, str]:
    """The folder that vLLM may load for a checkpoint and an adapter merged in `dtype`, and the key of these two.

    Raises PrefmillError for a checkpoint or an adapter that does not load, and where the cache cannot be written.
    """
    check_weight_files(folder)
    key = checkpoint_key(folder)
    if adapter is not None:
        key = f"{key}+{checkpoint_key(adapter, 'adapter')}"
    elif all(published_name(name) == name for name in weight_names(folder)):
        return folder, key
    cache = cache_folder() / "vllm"
    merged = "" if adapter is None else f"-{str(dtype).removeprefix('torch.')}"
    target = cache / f"{key.replace('@', '-')}{merged}"
    if not target.is_dir():
        make_folder(cache)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=cache) as temporary:
            fresh = Path(temporary) / "fresh"
            _write(folder, adapter, dtype, fresh)
            if not target.is_dir():  # another process may have been faster
                fresh.replace(target)
    return target, key


def _write(folder: Path, adapter: Path | None, dtype: torch.dtype, fresh: Path) -> None:
    fresh.mkdir()
    source = folder
    if adapter is not None:
        source = fresh.with_name("merged")
        model = cast(PreTrainedModel, load_strict(AutoModelForImageTextToText, folder, dtype=dtype))
        merge_adapter(model, adapter).save_pretrained(source)
    beside = [path for path in folder.iterdir() if path.suffix in _BESIDE and not path.match(_INDEX)]
    for path in (*beside, *source.glob(_INDEX)):
        shutil.copyfile(path, fresh / path.name)
    for path in source.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            tensors = {published_name(name): file.get_tensor(name).contiguous() for name in names}
            metadata = file.metadata() or {"format": "pt"}
        save_file(tensors, fresh / path.name, metadata=dict(metadata))
    rename_in_index(fresh)
