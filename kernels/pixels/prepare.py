"""Decoded images to the inputs of scorers and vision towers, on the device, equal to Pillow's to the last bit.

The reference path of every scorer goes through a file and Pillow: encode, decode, `resize(BICUBIC)` on uint8, crop or
pad, normalise. Here images stay tensors: [B, 3, H, W], uint8 or floats in -1..1 as a VAE gives them, are quantised to
uint8 as diffusers would for a file (x / 2 + 0.5, clamped, times 255, rounded to even; NaN becomes black), resized by
Pillow's own fixed-point arithmetic (`plan.py`), and normalised, for several targets in one launch.

On a CPU the sums of products are matmuls in float32 that are exact: pixels are shifted to -128..127, coefficients cut
into a high and a low part, such that every sum stays below 2^24, and the parts meet in 32-bit integers.
"""

from collections.abc import Sequence

import torch

from ..operation import Case, Inputs, Mode, Op
from ..triton_support import runs_triton
from .kernel import BUILDS, launch
from .plan import PRECISION_BITS, Axis, PixelTarget, plan

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
IMAGE_REWARD = PixelTarget(224, CLIP_MEAN, CLIP_DEVIATION, centre="torchvision")
CLIP = PixelTarget(224, CLIP_MEAN, CLIP_DEVIATION)
LLAVA = PixelTarget(336, CLIP_MEAN, CLIP_DEVIATION, fit="pad")
_TILE = 32  # outputs whose source pixels are one slice of the image


def prepare_pixels(images: torch.Tensor, targets: Sequence[PixelTarget]) -> list[torch.Tensor]:
    """Images [B, 3, H, W] to one normalised float32 [B, 3, size, size] per target.

    Raises ValueError for another shape or type, and for no target.
    """
    _check(images, targets)
    if runs_triton(images):
        return launch(images, targets)
    return prepare_pixels_reference(images, targets)


def prepare_pixels_reference(images: torch.Tensor, targets: Sequence[PixelTarget]) -> list[torch.Tensor]:
    """The same in plain torch, which is also the CPU path."""
    results = []
    for target, pixels in zip(targets, resize_pixels(images, targets), strict=True):
        mean, deviation = (torch.tensor(row).view(3, 1, 1).to(pixels.device) for row in (target.mean, target.deviation))
        results.append(pixels.float().div_(255).sub_(mean).div_(deviation))
    return results


def resize_pixels(images: torch.Tensor, targets: Sequence[PixelTarget]) -> list[torch.Tensor]:
    """Images [B, 3, H, W] resized and cropped or padded, but not normalised: uint8 [B, 3, size, size] per target."""
    _check(images, targets)
    pixels = quantize(images)
    height, width = pixels.shape[-2:]
    results = []
    for target in targets:
        how = plan(height, width, target)
        source = _padded(pixels, how.vertical, how.horizontal, target)
        if how.vertical_first:  # which is the other order of the transposed image
            resized = _resized(source.transpose(2, 3), how.horizontal, how.vertical).transpose(2, 3)
        else:
            resized = _resized(source, how.vertical, how.horizontal)
        results.append(resized.to(torch.uint8))
    return results


def quantize(images: torch.Tensor) -> torch.Tensor:
    """Images to uint8: floats in -1..1 as diffusers quantises them, NaN to 0; uint8 as it is."""
    if images.dtype == torch.uint8:
        return images
    return (images.float().nan_to_num(-1.0) / 2 + 0.5).clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _padded(pixels: torch.Tensor, vertical: Axis, horizontal: Axis, target: PixelTarget) -> torch.Tensor:
    height, width = pixels.shape[-2:]
    if target.fit == "crop" or height == width:
        return pixels
    side = max(height, width)
    colour = torch.tensor(target.padding, dtype=torch.uint8, device=pixels.device).view(1, 3, 1, 1)
    square = colour.repeat(len(pixels), 1, side, side)
    square[:, :, vertical.pad : vertical.pad + height, horizontal.pad : horizontal.pad + width] = pixels
    return square


def _range(axis: Axis) -> tuple[int, int]:
    """The source pixels that an axis reads, on the padded axis."""
    used = (axis.taps != 0).flip(1).int().argmax(1)
    return int(axis.first.min()), int((axis.first + axis.taps.shape[1] - used).max())


def _resized(pixels: torch.Tensor, vertical: Axis, horizontal: Axis) -> torch.Tensor:
    """uint8 [B, 3, H, W] to [B, 3, size, size], the horizontal pass first, and only on rows that are used."""
    top, bottom = _range(vertical)
    source = pixels[:, :, top:bottom].to(torch.float32, memory_format=torch.contiguous_format).sub_(128)
    batch, channels, rows, width = source.shape
    flat = source.view(-1, width)
    parts = [flat[:, first:end] @ matrix for first, end, matrix in _tiles(horizontal, pixels.device)]
    across = _joined(parts, horizontal, 1).sub_(128).float().view(batch, channels, rows, -1)
    parts = [
        matrix.t() @ across[:, :, first - top : end - top] for first, end, matrix in _tiles(vertical, pixels.device)
    ]
    return _joined(parts, vertical, 2)


def _tiles(axis: Axis, device: torch.device) -> list[tuple[int, int, torch.Tensor]]:
    """(first, end, matrix [end - first, 2 outputs]) of every tile of outputs: the low parts, then the high ones."""
    low_bits = _low_bits(axis)
    found = []
    for start in range(0, len(axis.first), _TILE):
        part = Axis(axis.first[start : start + _TILE], axis.taps[start : start + _TILE], axis.source, axis.pad)
        first, end = _range(part)
        place = part.first[:, None] - first + torch.arange(part.taps.shape[1])
        high = (part.taps + (1 << (low_bits - 1))) >> low_bits
        both = torch.zeros(2, len(part.first), end - first + part.taps.shape[1])
        both[0].scatter_(1, place, (part.taps - (high << low_bits)).float())
        both[1].scatter_(1, place, high.float())
        found.append((first, end, both.flatten(0, 1)[:, : end - first].t().contiguous().to(device)))
    return found


def _low_bits(axis: Axis) -> int:
    """Bits of a coefficient's low part: 128 times the sum of either part must stay within 2^24."""
    taps = axis.taps.shape[1]
    assert taps <= 2048, "a side more than 500 times that of its target"
    return min(11, 18 - (taps - 1).bit_length())


def _joined(parts: list[torch.Tensor], axis: Axis, dimension: int) -> torch.Tensor:
    """The tiles' sums, low and high along `dimension` (the last or the one before it), to pixels as int32.

    Rounds as Pillow's clip8 does: adds half, shifts, clips.
    """
    low, high = (
        torch.cat([part.chunk(2, dimension)[half] for part in parts], dimension).to(torch.int32) for half in (0, 1)
    )
    shift = (128 * axis.taps.sum(1) + (1 << (PRECISION_BITS - 1))).to(low.device, torch.int32)
    sums = high.bitwise_left_shift_(_low_bits(axis)).add_(low)
    sums.add_(shift if dimension == sums.ndim - 1 else shift[:, None])
    return sums.bitwise_right_shift_(PRECISION_BITS).clamp_(0, 255)


def _check(images: torch.Tensor, targets: Sequence[PixelTarget]) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.shape[2] or not images.shape[3]:
        raise ValueError(f"images must be [B, 3, height, width], not {list(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8, or floats in -1..1, not {images.dtype}")
    if not targets:
        raise ValueError("no target was given; use for example [IMAGE_REWARD, LLAVA]")


def _make(case: Case, device: torch.device) -> Inputs:
    draw = torch.Generator().manual_seed(0)
    shape = (case.sizes["B"], 3, case.sizes["H"], case.sizes["W"])
    coarse = torch.rand(shape[0], 3, 9, 9, generator=draw) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, shape[2:], mode="bicubic")
    images = images + 0.1 * torch.randn(shape, generator=draw)
    images = quantize(images) if case.dtype == torch.uint8 else images.to(case.dtype)
    return {"images": images.to(device), "targets": [IMAGE_REWARD, LLAVA]}


def _traffic(case: Case, mode: Mode) -> float:
    outputs = 4 * 3 * (224**2 + 336**2)
    image = case.dtype.itemsize * 3 * case.sizes["H"] * case.sizes["W"]
    return float(case.sizes["B"] * (image + outputs)) * (mode != "backward")


OP = Op(
    name="pixels",
    public=prepare_pixels,
    reference=prepare_pixels_reference,
    make=_make,
    cases=(
        Case("one image", {"B": 1, "H": 1024, "W": 1024}, torch.uint8),
        Case("four candidates", {"B": 4, "H": 512, "W": 768}),
    ),
    gpu_cases=tuple(
        Case("decoded", {"B": batch, "H": 1024, "W": 1024}, dtype)
        for dtype in (torch.uint8, torch.bfloat16, torch.float32)
        for batch in (4, 64)
    ),
    flops=lambda case, mode: 0.0,
    traffic=_traffic,
    bound="memory",
    builds=BUILDS,
)
