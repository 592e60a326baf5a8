"""Stable Diffusion 3 medium with random weights: its published sizes, and its transformer, for the benchmarks."""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SD3Transformer2DModel


@dataclass(frozen=True)
class Medium:
    """Sizes of a Stable Diffusion 3; the published ones by default."""

    layers: int = 24
    heads: int = 24
    text_width: int = 4096
    text_tokens: int = 333
    pooled: int = 2048
    latent_side: int = 128
    channels: tuple[int, ...] = (128, 256, 512, 512)
    dtype: torch.dtype = torch.bfloat16


@contextlib.contextmanager
def making(sizes: Medium, device: torch.device) -> Iterator[None]:
    """Make weights on the device, and in the precision that they are used in: there are two billion of them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(sizes.dtype)
    torch.manual_seed(0)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def medium_transformer(sizes: Medium, device: torch.device) -> Any:
    """The transformer, for inference."""
    with making(sizes, device):
        transformer: Any = SD3Transformer2DModel(
            sample_size=sizes.latent_side, num_layers=sizes.layers, num_attention_heads=sizes.heads,
            attention_head_dim=64, caption_projection_dim=64 * sizes.heads, pooled_projection_dim=sizes.pooled,
            joint_attention_dim=sizes.text_width, pos_embed_max_size=sizes.latent_side * 3 // 2,
        )  # fmt: skip
    return torch.nn.Module.to(transformer.eval(), sizes.dtype)  # the table of positions is made in float32
