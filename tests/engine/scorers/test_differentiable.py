"""Scores with a gradient by the image: the same pixels as the stored image's, but for its rounding to 8 bits."""

import pytest
import torch
from prefmill.engine.image_inputs import ImagePreprocessing
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.runner import EagerRunner
from prefmill.engine.scorers.interface import ImageScorer
from prefmill.engine.scorers.mixture import MixtureScorer


class Brightness(ImageScorer):
    """The mean of its pixels."""

    def __init__(self, size: int) -> None:
        self.key, self.inputs = f"brightness-{size}", ImagePreprocessing(size)
        layer = torch.nn.Linear(1, 1)
        pixels = {"pixels": Input((Dimension("batch", 1, 2, 8), 3, size, size))}
        self.runner = EagerRunner(
            Network("mean", layer, lambda layer, pixels: pixels.mean((1, 2, 3)), pixels, ("scores",))
        )

    def score_pixels(self, pixels, prompts):
        return self.runner.run({"pixels": pixels})["scores"], [False] * len(prompts)


@pytest.mark.parametrize(("size", "squash"), [(12, False), (24, False), (24, True), (64, False)])
def test_pixels_are_pillow_s_but_for_rounding(size, squash):
    inputs = ImagePreprocessing(size, squash=squash)
    coarse = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(coarse, (40, 48), mode="bilinear") * 2 - 1
    exact, rounded = inputs.differentiable_pixels(images), inputs.decoded_pixels(images)
    assert exact.shape == rounded.shape == (2, 3, size, size)
    # the image is rounded, and again after each of the two passes
    assert float((exact - rounded).abs().max()) <= 1.6 / 255 / min(inputs.deviation)


def test_a_mixture_s_gradient_is_the_weighted_sum():
    parts = {"clip": Brightness(8), "blip": Brightness(12)}
    images = torch.zeros(2, 3, 24, 24, requires_grad=True)
    mixture = MixtureScorer(parts, {"clip": 2.0, "blip": -0.5})
    mixture.differentiable_scores(images, ["a", "b"]).sum().backward()
    assert images.grad is not None
    expected = torch.zeros_like(images)
    for weight, scorer in ((2.0, parts["clip"]), (-0.5, parts["blip"])):
        alone = torch.zeros_like(images, requires_grad=True)
        scorer.differentiable_scores(alone, ["a", "b"]).sum().backward()
        assert alone.grad is not None
        expected += weight * alone.grad
    torch.testing.assert_close(images.grad, expected)
    assert expected.abs().sum() > 0
