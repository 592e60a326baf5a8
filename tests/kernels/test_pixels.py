"""Pixels against Pillow: not one value may differ."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features
from prefmill.kernels.pixels.plan import PixelTarget
from prefmill.kernels.pixels.prepare import (
    CLIP,
    CLIP_DEVIATION,
    CLIP_MEAN,
    IMAGE_REWARD,
    LLAVA,
    prepare_pixels,
    quantize,
    resize_pixels,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from .pillow_reference import by_pillow

TARGETS = [IMAGE_REWARD, CLIP, LLAVA]
modern = pytest.mark.skipif(
    int((features.version("pil") or "0").split(".")[0]) < 13, reason="Pillow before 13 has another order of passes"
)


def differing(image, targets):
    """How many values differ from Pillow's, for each target."""
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    ours = resize_pixels(tensor, targets)
    return [int((by_pillow(image, target) != mine[0]).sum()) for target, mine in zip(targets, ours, strict=True)]


@modern
@pytest.mark.parametrize("block", range(10))
def test_no_value_differs_at_random_sizes(block):
    """300 sizes of 1 to 3,000 pixels a side, noise; the targets take turns, so each sees 100."""
    draw = np.random.default_rng(block)
    noise = draw.integers(0, 256, size=3000 * 3000 * 3, dtype=np.uint8)
    for number in range(30):
        height, width = (int(side) for side in draw.integers(1, 3001, size=2))
        image = Image.fromarray(noise[: height * width * 3].reshape(height, width, 3))
        assert differing(image, [TARGETS[number % 3]]) == [0], f"{width} x {height}"


@modern
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (1, 300), (300, 1), (224, 224), (336, 336), (225, 224), (227, 224), (64, 999)]
)
@pytest.mark.parametrize("kind", ["noise", "black", "white", "edges"])
def test_no_value_differs_at_the_edges(size, kind):
    """Enlarging, exact fits, odd crops, and black-white edges, where sums overshoot and are clipped."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    if kind == "noise":
        pixels = np.random.default_rng(0).integers(0, 256, size=pixels.shape, dtype=np.uint8)
    elif kind == "white":
        pixels += 255
    elif kind == "edges":
        pixels[::2, 1::2] = 255
    assert differing(Image.fromarray(pixels), TARGETS) == [0, 0, 0]


@modern
def test_no_value_differs_on_real_images(shared):
    paths = sorted((shared / "data" / "pdsdpo-sample" / "images").glob("*.webp"))
    if not paths:
        pytest.skip("the sample images are not here")
    for path in paths:
        with Image.open(path) as image:
            assert differing(image.convert("RGB"), [IMAGE_REWARD, LLAVA]) == [0, 0], path.name


def test_older_order_of_passes_differs_on_tall_images_only():
    """The other order is reachable, and matters only beyond 2 : 1."""
    older = PixelTarget(224, CLIP_MEAN, CLIP_DEVIATION, passes="pillow 12")
    for height, tall in ((500, False), (900, True)):
        image = torch.randint(0, 256, (1, 3, height, 300), dtype=torch.uint8)
        first, second = resize_pixels(image, [CLIP, older])
        assert torch.equal(first, second) != tall


def processed(image, side):
    """By transformers' CLIP processor."""
    sizes: dict[str, Any] = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return CLIPImageProcessorPil(**sizes)(image, return_tensors="pt")["pixel_values"]


def test_normalised_values_equal_the_processors():
    """transformers' CLIP processor for the crop, and its steps on a padded image for LLaVA."""
    draw = np.random.default_rng(2)
    image = Image.fromarray(draw.integers(0, 256, size=(500, 411, 3), dtype=np.uint8))
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    clip, llava, reward = prepare_pixels(tensor, [CLIP, LLAVA, IMAGE_REWARD])
    expected = processed(image, 224)
    torch.testing.assert_close(clip, expected, atol=5e-7, rtol=0)
    side = max(image.size)
    square = Image.new("RGB", (side, side), LLAVA.padding)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    torch.testing.assert_close(llava, processed(square, 336), atol=5e-7, rtol=0)
    # ImageReward's: torchvision's ToTensor and Normalize, operation by operation
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_DEVIATION))
    plain = by_pillow(image, IMAGE_REWARD).float().div(255).sub(mean).div(deviation)
    assert torch.equal(reward[0], plain)


def test_floats_are_quantised_as_for_a_file():
    """A decoder's -1..1 as diffusers writes it: denormalise, clamp, times 255, round half to even."""
    levels = torch.linspace(-1.3, 1.3, 3 * 40 * 50).view(1, 3, 40, 50)
    levels[0, 0, 0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])
    by_diffusers = ((levels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255).round()
    expected = torch.from_numpy(np.nan_to_num(by_diffusers, nan=0.0).astype("uint8")).permute(0, 3, 1, 2)
    assert torch.equal(quantize(levels), expected)
    assert quantize(levels)[0, 0, 0, :4].tolist() == [0, 255, 0, 128]
    assert torch.equal(prepare_pixels(levels, [CLIP])[0], prepare_pixels(expected, [CLIP])[0])
    halves = levels.bfloat16()
    assert torch.equal(quantize(halves), quantize(halves.float())), "half precision is widened first"


def test_a_batch_gives_what_its_images_give():
    images = torch.randint(0, 256, (3, 3, 90, 130), dtype=torch.uint8)
    whole = prepare_pixels(images, [CLIP, LLAVA])
    for place in range(3):
        for together, alone in zip(whole, prepare_pixels(images[place : place + 1], [CLIP, LLAVA]), strict=True):
            assert torch.equal(together[place], alone[0])
    assert [tuple(part.shape) for part in whole] == [(3, 3, 224, 224), (3, 3, 336, 336)]


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (torch.zeros(3, 4, 4), [CLIP], r"\[B, 3, height, width\]"),
        (torch.zeros(1, 1, 4, 4), [CLIP], r"\[B, 3, height, width\]"),
        (torch.zeros(1, 3, 0, 4), [CLIP], r"\[B, 3, height, width\]"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int32), [CLIP], "uint8, or floats"),
        (torch.zeros(1, 3, 4, 4), [], "no target"),
    ],
)
def test_wrong_arguments_are_named(images, targets, message):
    with pytest.raises(ValueError, match=message):
        prepare_pixels(images, targets)
