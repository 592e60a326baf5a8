"""The Triton kernel of `pixels`, in the interpreter: equal to the CPU path, which is equal to Pillow, bit for bit."""

import pytest
import torch
from prefmill.kernels.pixels.plan import PixelTarget, plan
from prefmill.kernels.pixels.prepare import CLIP_DEVIATION, CLIP_MEAN, prepare_pixels, prepare_pixels_reference
from prefmill.kernels.triton_support import INTERPRETED

assert INTERPRETED
CROP = PixelTarget(24, CLIP_MEAN, CLIP_DEVIATION, centre="torchvision")
PAD = PixelTarget(33, CLIP_MEAN, CLIP_DEVIATION, fit="pad")
OLDER = PixelTarget(40, CLIP_MEAN, CLIP_DEVIATION, passes="pillow 12")


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        *((size, torch.uint8) for size in ((1, 1), (2, 3), (7, 90), (131, 50), (64, 64))),
        ((131, 50), torch.float32),
        ((7, 90), torch.float16),
        ((7, 90), torch.bfloat16),
    ],
)
def test_not_one_value_differs(size, dtype):
    """Enlarged and reduced, both orders of passes (131 x 50 is tall), all types, a batch of two."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 if size == (2, 3) else 1, 3, *size), generator=draw, dtype=torch.uint8)
    if dtype != torch.uint8:
        # half the values sit on the boundary between two levels, where rounding to even decides
        boundary = (torch.randint(0, 256, images.shape, generator=draw) + 0.5) / 255 * 2 - 1
        anywhere = torch.rand(images.shape, generator=draw) * 2.6 - 1.3
        images = torch.where(torch.rand(images.shape, generator=draw) < 0.5, boundary, anywhere).to(dtype)
        images[0, 0, 0, 0] = torch.nan
    targets = [CROP, PAD, OLDER] if size == (131, 50) and dtype == torch.uint8 else [CROP, PAD]
    for ours, expected in zip(prepare_pixels(images, targets), prepare_pixels_reference(images, targets), strict=True):
        assert torch.equal(ours, expected)


def test_both_orders_are_reached():
    assert plan(131, 50, CROP).vertical_first
    assert not plan(131, 50, OLDER).vertical_first
    assert not plan(7, 90, CROP).vertical_first
