"""Latents to images: the autoencoder's decoder, and the rounding to 8 bits that names rows which are no pictures."""

from dataclasses import dataclass
from typing import Any

import torch

from ..network import Dimension, Input, Network
from ..runner import Runner

BLACK = 2
"""Of 255: an image that is nowhere brighter shows nothing. It is what a network gives whose values vanish."""


@dataclass(frozen=True)
class Generated:
    """`images` uint8 [B, H, W, 3] on the model's device; `failures[i]` is None where image i can be used.

    `nan`: the network overflowed (the pixels are set to black). `black`: no pixel is brighter than BLACK. `constant`:
    every pixel has one colour.
    """

    images: torch.Tensor
    failures: list[str | None]


def decode(decoder: Runner, latents: torch.Tensor, scale: float, shift: float) -> torch.Tensor:
    """Latents [B, C, h, w], scaled and shifted as the transformer has them, to float images [B, 3, H, W] in 0 to 1."""
    images = decoder.run({"latents": latents / scale + shift})["images"]
    return (images * 0.5 + 0.5).clamp(0, 1).float()


def decoder_network(autoencoder: Any, transformer: Any) -> Network:
    """The network that `decode` runs: the autoencoder's own latents to images in -1 to 1.

    The library's decoder takes another path from 64 images on, so that an engine stops below.
    """
    latents = Input((Dimension("batch", 1, 8, 63), int(transformer.in_channels), *side_dimensions(transformer)))
    return Network("sd3_decoder", autoencoder, _decode_latents, {"latents": latents}, ("images",))


def side_dimensions(transformer: Any) -> tuple[Dimension, Dimension]:
    """Height and width of latents, by the transformer's config: up to the size that it was trained at."""
    patch, size = int(transformer.patch_size), int(transformer.sample_size)
    smallest = max(size // 4 // patch * patch, patch)
    return Dimension("height", smallest, size, size, patch), Dimension("width", smallest, size, size, patch)


def _decode_latents(autoencoder: Any, latents: torch.Tensor) -> torch.Tensor:
    return autoencoder.decode(latents, return_dict=False)[0]


def quantize(images: torch.Tensor) -> Generated:
    """Float images [B, 3, H, W] in 0 to 1 to uint8 [B, H, W, 3], with the rows named that are no pictures.

    Rounds as the stock pipeline does: to the nearest of 255 levels.
    """
    finite = images.isfinite().flatten(1).all(1)
    pixels = (images.nan_to_num(0.0) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    pixels[~finite] = 0
    flat = pixels.flatten(1, 2)
    constant = (flat.amax(1) == flat.amin(1)).all(-1)
    black = flat.amax((1, 2)) <= BLACK
    found = zip(finite.tolist(), black.tolist(), constant.tolist(), strict=True)
    failures = [
        "nan" if not good else "black" if dark else "constant" if plain else None for good, dark, plain in found
    ]
    return Generated(pixels, failures)
