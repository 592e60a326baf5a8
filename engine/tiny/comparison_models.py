"""Tiny random-weight builds of the scorers beside ImageReward: CLIPs, BLIP matching, an aesthetic head on a CLIP."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
)

from .configs import blip_configs, clip_text_config
from .folder import build_once
from .tokenizers import bert_tokenizer, clip_tokenizer
from .weights import randomize

_WIDTH = 48


def build_clip(folder: Path, seed: int = 0) -> Path:
    """CLIP at width 48: images at 64 x 64, prompts up to 77 tokens."""
    return build_once(folder, seed, "clip", lambda fresh: _write_clip(fresh, seed))


def build_pickscore(folder: Path, seed: int = 0) -> Path:
    """A CLIP with PickScore's activation."""
    return build_once(folder, seed, "pickscore", lambda fresh: _write_clip(fresh, seed + 2, "gelu"))


def build_hpsv2(folder: Path, seed: int = 0) -> Path:
    """A CLIP with HPSv2's activation, under transformers' names."""
    return build_once(folder, seed, "hpsv2", lambda fresh: _write_clip(fresh, seed + 3, "gelu"))


def build_aesthetic(folder: Path, seed: int = 0) -> Path:
    """The same CLIP with other weights, and a linear head beside it."""

    def build(fresh: Path) -> None:
        _write_clip(fresh, seed + 1)
        head = torch.nn.Linear(_WIDTH, 1)
        randomize(head, seed, {"weight": 5.0})
        save_file({name: value.detach() for name, value in head.named_parameters()}, fresh / "aesthetic.safetensors")

    return build_once(folder, seed, "aesthetic", build)


def build_blip(folder: Path, seed: int = 0) -> Path:
    """BLIP image-text matching at width 48: images at 64 x 64."""

    def build(fresh: Path) -> None:
        tokenizer = bert_tokenizer()
        vision, text = blip_configs(tokenizer, _WIDTH, image_size=64, patch_size=16)
        model = BlipForImageTextRetrieval(
            BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=_WIDTH)  # type: ignore[arg-type]
        )
        randomize(model, seed, {"itm_head.weight": 3.0})
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)

    return build_once(folder, seed, "blip matching", build)


def _write_clip(fresh: Path, seed: int, activation: str = "quick_gelu") -> None:
    tokenizer = clip_tokenizer()
    text = clip_text_config(tokenizer, _WIDTH, activation=activation)
    vision = CLIPVisionConfig(
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_act=activation,
        projection_dim=_WIDTH,
        image_size=64,
        patch_size=16,
    )
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=_WIDTH))  # type: ignore[arg-type]
    randomize(model, seed)
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
