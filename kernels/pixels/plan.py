"""Where every output pixel of a scorer's input comes from, in Pillow's own arithmetic.

Pillow resizes uint8 in two passes, each a sum of products with 22-bit fixed-point coefficients, then
rounded and clipped to uint8 (src/libImaging/Resample.c). The coefficients are reproduced here operation by operation,
in the same order and in double precision, so that not one of them differs.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

PRECISION_BITS = 22  # of 32: 8 are the pixel's, 2 are for sums that overshoot
_SUPPORT = 2.0  # of the bicubic filter, in output pixels


@dataclass(frozen=True)
class PixelTarget:
    """One model's input: `size` x `size` pixels, normalised by `mean` and `deviation` of each channel.

    fit "crop": the shorter side becomes `size`, and the centre is kept; `centre` says whose rounding places it
    ("torchvision" rounds half the excess to even, "transformers" down). fit "pad": the image is first put in the
    middle of a square of the colour int(255 * mean), as LLaVA-1.5 does. `passes` tells whose order of passes counts:
    Pillow resized along rows first until 12, and since 13 along columns first where those shrink by more than twice
    as much, which happens to tall images (more than 2 : 1) only.
    """

    size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    fit: Literal["crop", "pad"] = "crop"
    centre: Literal["torchvision", "transformers"] = "transformers"
    passes: Literal["pillow 12", "pillow 13"] = "pillow 13"

    @property
    def padding(self) -> tuple[int, int, int]:
        """The colour around an image that is no square."""
        red, green, blue = (int(255 * value) for value in self.mean)
        return red, green, blue

    @property
    def levels(self) -> torch.Tensor:
        """What each of the 256 levels of each channel becomes: float32 [3, 256]."""
        mean, deviation = (torch.tensor(row).view(3, 1) for row in (self.mean, self.deviation))
        return torch.arange(256, dtype=torch.float32).div_(255).repeat(3, 1).sub_(mean).div_(deviation)


@dataclass(frozen=True)
class Axis:
    """One axis of one target: output i is the sum over k of taps[i, k] times source pixel first[i] + k - pad.

    Counted on the padded axis; `source` is the image's own length.
    """

    first: torch.Tensor
    taps: torch.Tensor
    source: int
    pad: int


def bicubic(distance: torch.Tensor) -> torch.Tensor:
    """Pillow's bicubic filter (Keys, 1981, a = -0.5), in its order of operations."""
    a = -0.5
    x = distance.abs()
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))


def coefficients(source: int, resized: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First source pixel [resized] and fixed-point taps [resized, K] of one axis."""
    scale = source / resized
    filter_scale = max(scale, 1.0)
    support = _SUPPORT * filter_scale
    centre = (torch.arange(resized, dtype=torch.float64) + 0.5) * scale
    first = (centre - support + 0.5).trunc().clamp(min=0)
    last = (centre + support + 0.5).trunc().clamp(max=source)
    place = torch.arange(int((last - first).max()), dtype=torch.float64)
    weights = bicubic((place + first[:, None] - centre[:, None] + 0.5) * (1.0 / filter_scale))
    weights = torch.where(place < (last - first)[:, None], weights, 0.0)
    total = torch.zeros(resized, dtype=torch.float64)
    for column in weights.unbind(1):  # in this order: another one rounds differently
        total += column
    scaled = weights / torch.where(total == 0, 1.0, total)[:, None] * (1 << PRECISION_BITS)
    taps = torch.where(scaled < 0, (scaled - 0.5).trunc(), (scaled + 0.5).trunc())
    return first.long(), taps.long()


@dataclass(frozen=True)
class ResizePlan:
    """Both axes of a target, and whether the vertical one is resized first."""

    vertical: Axis
    horizontal: Axis
    vertical_first: bool


@lru_cache(maxsize=512)
def plan(height: int, width: int, target: PixelTarget) -> ResizePlan:
    """How an image of this size becomes the target."""
    if target.fit == "pad":
        side = max(height, width)
        first, taps = coefficients(side, target.size)
        vertical, horizontal = (Axis(first, taps, source, (side - source) // 2) for source in (height, width))
        return ResizePlan(vertical, horizontal, vertical_first=False)  # a square shrinks alike on both axes
    shorter = min(height, width)
    lengths = [int(target.size * source / shorter) if source > shorter else target.size for source in (height, width)]
    vertical, horizontal = (
        _cropped(source, length, target) for source, length in zip((height, width), lengths, strict=True)
    )
    less_rows, less_columns = height - lengths[0], width - lengths[1]
    return ResizePlan(vertical, horizontal, target.passes == "pillow 13" and less_rows > max(0, 2 * less_columns))


def _cropped(source: int, resized: int, target: PixelTarget) -> Axis:
    excess = resized - target.size
    start = round(excess / 2.0) if target.centre == "torchvision" else excess // 2
    first, taps = coefficients(source, resized)
    kept = slice(start, start + target.size)
    return Axis(first[kept], taps[kept], source, 0)
