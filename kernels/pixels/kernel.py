"""The Triton kernel of `pixels`: both passes, rounding between them, and normalisation, for all targets in one launch.

A program makes a tile of 32 x 32 outputs of one channel. Sums of products must be exact in 32-bit integers, so the
23-bit coefficients are cut into three digits of 8 bits, and each pass is three int8 matmuls on the tensor cores, with
pixels shifted to -128..127:  sum p c = sum_d 256^d (p - 128) c_d + 128 sum c. Tiles of all targets lie in one grid,
images last, so that an image is read from memory once and then from the cache. Where the vertical pass comes first,
the kernel works on the transposed image; targets that differ in this take two launches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from ..operation import Build
from ..triton_support import argument, blocks, constexpr, jit, tl
from .plan import Axis, PixelTarget, plan

_TILE, _DEPTH, _WARPS = 32, 32, 4
_STAGES = 1  # a pipeline of loads would take the registers that the matmuls need
_FIELDS = 13


@jit
def resize_tiles(
    images: argument,  # [B, 3, H, W]
    tiles: argument,  # [tiles, 13] int32: see `_describe`
    digits: argument,  # int8: matrices of all axes
    sums: argument,  # int32: 128 times the sum of the coefficients of every output
    levels: argument,  # [targets, 3, 256] float32: normalised levels
    paddings: argument,  # [targets, 3] int32
    output: argument,  # float32: [B, 3, size, size] of every target
    height: argument,  # of the image as the kernel sees it
    width: argument,
    batch: argument,
    FLOATS: constexpr,
    TRANSPOSED: constexpr,
    TILE: constexpr,
    DEPTH: constexpr,
    FIELDS: constexpr,
) -> None:
    """One tile of one channel of one image; see the module."""
    fields = tiles + tl.program_id(0) * FIELDS
    channel = tl.program_id(1)
    image = tl.program_id(2)
    target = tl.load(fields)
    size = tl.load(fields + 1)
    column_matrix, column_first, column_span = tl.load(fields + 2), tl.load(fields + 3), tl.load(fields + 4)
    row_matrix, row_first, row_span = tl.load(fields + 5), tl.load(fields + 6), tl.load(fields + 7)
    left, top = tl.load(fields + 8), tl.load(fields + 9)
    column_sums, row_sums = tl.load(fields + 10), tl.load(fields + 11)
    lane = tl.arange(0, TILE)
    deep = tl.arange(0, DEPTH)
    padding = tl.load(paddings + target * 3 + channel)
    source = images + (image.to(tl.int64) * 3 + channel) * height * width

    low = tl.zeros([TILE, TILE], tl.int32)
    middle = tl.zeros([TILE, TILE], tl.int32)
    high = tl.zeros([TILE, TILE], tl.int32)
    for row in range(0, row_span, DEPTH):
        y = row_first + row + deep
        low_c = tl.zeros([DEPTH, TILE], tl.int32)
        middle_c = tl.zeros([DEPTH, TILE], tl.int32)
        high_c = tl.zeros([DEPTH, TILE], tl.int32)
        for column in range(0, column_span, DEPTH):
            x = column_first + column + deep
            inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None, :]
            if TRANSPOSED:
                raw = tl.load(source + x[None, :] * height + y[:, None], mask=inside, other=0)
            else:
                raw = tl.load(source + y[:, None] * width + x[None, :], mask=inside, other=0)
            if FLOATS:
                value = raw.to(tl.float32)
                value = tl.where(value <= float("inf"), value, -1.0)  # NaN
                value = tl.minimum(tl.maximum(value * 0.5 + 0.5, 0.0), 1.0) * 255.0
                whole = tl.floor(value)
                rest = value - whole
                odd = (whole.to(tl.int32) & 1) == 1
                pixel = whole.to(tl.int32) + ((rest > 0.5) | ((rest == 0.5) & odd)).to(tl.int32)
            else:
                pixel = raw.to(tl.int32)
            pixel = tl.where(inside, pixel, padding)
            shifted = (pixel - 128).to(tl.int8)
            matrix = digits + column_matrix + (column + deep)[:, None] * TILE + lane[None, :]
            plane = column_span * TILE
            low_c = tl.dot(shifted, tl.load(matrix), low_c, out_dtype=tl.int32)
            middle_c = tl.dot(shifted, tl.load(matrix + plane), middle_c, out_dtype=tl.int32)
            high_c = tl.dot(shifted, tl.load(matrix + 2 * plane), high_c, out_dtype=tl.int32)
        total = low_c + middle_c * 256 + high_c * 65536 + tl.load(sums + column_sums + lane)[None, :]
        between = tl.minimum(tl.maximum((total + 2097152) >> 22, 0), 255)
        shifted_rows = (between - 128).to(tl.int8)
        matrix = digits + row_matrix + lane[:, None] * row_span + (row + deep)[None, :]
        plane = row_span * TILE
        low = tl.dot(tl.load(matrix), shifted_rows, low, out_dtype=tl.int32)
        middle = tl.dot(tl.load(matrix + plane), shifted_rows, middle, out_dtype=tl.int32)
        high = tl.dot(tl.load(matrix + 2 * plane), shifted_rows, high, out_dtype=tl.int32)
    total = low + middle * 256 + high * 65536 + tl.load(sums + row_sums + lane)[:, None]
    pixel = tl.minimum(tl.maximum((total + 2097152) >> 22, 0), 255)

    y = top + lane
    x = left + lane
    value = tl.load(levels + (target * 3 + channel) * 256 + pixel)
    place = (image.to(tl.int64) * 3 + channel) * size * size
    if TRANSPOSED:
        place += x[None, :] * size + y[:, None]
    else:
        place += y[:, None] * size + x[None, :]
    start = tl.load(fields + 12).to(tl.int64) * 3 * batch  # targets lie behind each other
    tl.store(output + start + place, value, mask=(y < size)[:, None] & (x < size)[None, :])


class _Matrices:
    """Collects the matrices of tiles in one int8 buffer, and their sums in one int32 buffer."""

    def __init__(self) -> None:
        self.digits: list[torch.Tensor] = []
        self.sums: list[torch.Tensor] = []
        self.length = 0

    def add(self, axis: Axis, start: int, *, along_columns: bool) -> tuple[int, int, int, int]:
        """Matrix place, first source pixel, span and sums place of the tile of outputs that begins at `start`."""
        first, taps = axis.first[start : start + _TILE], axis.taps[start : start + _TILE]
        begin = int(first.min())
        length = int(first.max()) - begin + taps.shape[1]
        span = blocks(length, _DEPTH) * _DEPTH
        matrix = torch.zeros(_TILE, span, dtype=torch.int64)
        matrix[: len(first)].scatter_(1, first[:, None] - begin + torch.arange(taps.shape[1]), taps)
        low = ((matrix + 128) & 255) - 128
        rest = (matrix - low) >> 8
        middle = ((rest + 128) & 255) - 128
        digits = torch.stack([low, middle, (rest - middle) >> 8]).to(torch.int8)
        place = self.length
        self.digits.append((digits.transpose(1, 2) if along_columns else digits).flatten())
        self.sums.append(128 * matrix.sum(1))
        self.length += digits.numel()
        return place, begin - axis.pad, span, (len(self.sums) - 1) * _TILE


@lru_cache(maxsize=64)
def _describe(
    height: int, width: int, targets: tuple[PixelTarget, ...], device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Tiles [tiles, 13], digits, sums, normalised levels and padding colours for images of this size.

    Kept on the device: to copy them there for every image would be to wait for it every time.
    """
    matrices, tiles, before = _Matrices(), [], 0
    for number, target in enumerate(targets):
        how = plan(height, width, target)
        vertical, horizontal = how.vertical, how.horizontal
        if how.vertical_first:
            vertical, horizontal = horizontal, vertical
        starts = range(0, target.size, _TILE)
        columns = [matrices.add(horizontal, start, along_columns=True) for start in starts]
        rows = [matrices.add(vertical, start, along_columns=False) for start in starts]
        for top, row in zip(starts, rows, strict=True):
            for left, column in zip(starts, columns, strict=True):
                tiles.append([number, target.size, *column[:3], *row[:3], left, top, column[3], row[3], before])
        before += target.size**2
    paddings = [target.padding for target in targets]
    return (
        torch.tensor(tiles, dtype=torch.int32).to(device),
        torch.cat(matrices.digits).to(device),
        torch.cat(matrices.sums).to(device, torch.int32),
        torch.stack([target.levels for target in targets]).to(device),
        torch.tensor(paddings, dtype=torch.int32).to(device),
    )


def launch(images: torch.Tensor, targets: Sequence[PixelTarget]) -> list[torch.Tensor]:
    """Normalised float32 [B, 3, size, size] of every target."""
    height, width = images.shape[-2:]
    flags = [plan(height, width, target).vertical_first for target in targets]
    results: dict[int, torch.Tensor] = {}
    for flag in sorted(set(flags)):
        chosen = [place for place, other in enumerate(flags) if other == flag]
        parts = _launch(images, [targets[place] for place in chosen], flag)
        results.update(zip(chosen, parts, strict=True))
    return [results[place] for place in range(len(targets))]


def _launch(images: torch.Tensor, targets: Sequence[PixelTarget], transposed: bool) -> list[torch.Tensor]:
    batch, _, height, width = images.shape
    tiles, digits, sums, levels, paddings = _describe(height, width, tuple(targets), images.device)
    sizes = [target.size for target in targets]
    output = torch.empty(batch * 3 * sum(size**2 for size in sizes), dtype=torch.float32, device=images.device)
    resize_tiles[(len(tiles), 3, batch)](
        images.contiguous(),
        tiles,
        digits,
        sums,
        levels,
        paddings,
        output,
        *((width, height) if transposed else (height, width)),
        batch,
        FLOATS=images.is_floating_point(),
        TRANSPOSED=transposed,
        TILE=_TILE,
        DEPTH=_DEPTH,
        FIELDS=_FIELDS,
        num_warps=_WARPS,
        num_stages=_STAGES,
        enable_fp_fusion=False,  # torch rounds after every operation, and so must the quantisation
    )
    parts = output.split([batch * 3 * size**2 for size in sizes])
    return [part.view(batch, 3, size, size) for part, size in zip(parts, sizes, strict=True)]


BUILDS = tuple(
    Build(
        name=f"resize_tiles {type_[1:]}{' transposed' * transposed}",
        kernel=resize_tiles,
        signature={
            "images": type_,
            "tiles": "*i32",
            "digits": "*i8",
            "sums": "*i32",
            "levels": "*fp32",
            "paddings": "*i32",
            "output": "*fp32",
            "height": "i32",
            "width": "i32",
            "batch": "i32",
        },
        constants={
            "FLOATS": type_ != "*u8",
            "TRANSPOSED": transposed,
            "TILE": _TILE,
            "DEPTH": _DEPTH,
            "FIELDS": _FIELDS,
        },
        warps=_WARPS,
        divisible=("height", "width"),
        stages=_STAGES,
        fuse_multiply_add=False,
    )
    for type_, transposed in (("*u8", False), ("*u8", True), ("*fp32", False), ("*bf16", False), ("*fp16", False))
)
