"""The shape of a vision-language model, for counting work and memory: read off its modules, whatever its family.

The modules may be on the meta device, where a model of any size takes no memory and no weights are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from .adapter import lora_targets
from .preference.scorer import feature_width

_PROJECTOR = re.compile(r"projector|connector|merger")


@dataclass(frozen=True)
class ModelShape:
    """Weights are multiply-adds per token: `layer_weights` of all decoder layers' linear layers, `tower_weights` of the
    vision tower per patch, `projector_weights` per image token, `head_weights` of the head.

    `adapter_weights` are what an adapter of rank 1 adds to the decoder's. `query_width` and `key_width` are the widths
    of all heads together, `mlp_width` that of the gated layer; the language model reads `feature_width` numbers of an
    image's token. `merged` patches become one image token; a tile of the image begins with `extra_patches` that are
    not patches.
    """

    parameters: int
    quantisable: int
    layers: int
    width: int
    query_width: int
    key_width: int
    mlp_width: int
    vocabulary: int
    feature_width: int
    layer_weights: int
    adapter_weights: int
    head_weights: int
    tower_weights: int
    tower_layers: int
    tower_width: int
    projector_weights: int
    patch: int
    channels: int
    frames: int
    merged: int
    extra_patches: int


def shape_of_folder(folder: Path) -> ModelShape:
    """Return the shape that a folder's config describes. Its weights are not read, and need not be there."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return shape_of(cast(PreTrainedModel, AutoModelForImageTextToText.from_config(config)))


def shape_of(model: PreTrainedModel) -> ModelShape:
    """Return the shape of a model that has no adapter. Raises PrefmillError for one without a language model."""
    text: Any = model.config.get_text_config()
    vision: Any = cast(Any, model.config).vision_config
    targets, head = re.compile(lora_targets(model)), model.get_output_embeddings()
    decoder = set(model.get_decoder().modules())
    layers = adapters = quantisable = tower = projector = 0
    for name, module in model.named_modules():
        if module is head or not isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.Conv3d):
            continue
        weights = module.weight.numel()
        if module in decoder:
            layers, quantisable = layers + weights, quantisable + weights
            if targets.fullmatch(name) and isinstance(module, torch.nn.Linear):
                adapters += module.in_features + module.out_features
        elif _PROJECTOR.search(name):
            projector += weights
        else:
            tower += weights
    heads = text.num_attention_heads
    head_width = getattr(text, "head_dim", None) or text.hidden_size // heads
    width = getattr(vision, "hidden_size", None) or vision.embed_dim
    return ModelShape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        quantisable=quantisable,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        query_width=heads * head_width,
        key_width=(getattr(text, "num_key_value_heads", None) or heads) * head_width,
        mlp_width=text.intermediate_size,
        vocabulary=text.vocab_size,
        feature_width=feature_width(model),
        layer_weights=layers,
        adapter_weights=adapters,
        head_weights=text.hidden_size * text.vocab_size,
        tower_weights=tower,
        tower_layers=getattr(vision, "num_hidden_layers", None) or vision.depth,
        tower_width=width,
        projector_weights=projector,
        patch=vision.patch_size[0] if isinstance(vision.patch_size, list | tuple) else vision.patch_size,
        channels=getattr(vision, "num_channels", None) or getattr(vision, "in_channels", 3),
        frames=getattr(vision, "temporal_patch_size", 1),
        merged=_merged(cast(Any, model.config), vision),
        extra_patches=int(getattr(vision, "model_type", "") in {"clip_vision_model", "internvl_vision"}),
    )


def _merged(config: Any, vision: Any) -> int:
    ratio = getattr(config, "downsample_ratio", None)  # InternVL
    side = getattr(vision, "spatial_merge_size", None) or getattr(config, "scale_factor", None)
    return round(1 / ratio) ** 2 if ratio else (side or 1) ** 2
