"""Corrupted images: the same for a pair and a seed, of the image's size, and what they claim to be."""

import numpy as np
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.train.data import RunImages, load_pairs
from prefmill.train.preference.batches import PairBatches
from prefmill.train.preference.negatives import ImageNegatives, add_noise, crop

KINDS = ("crop", "noise", "other")


@pytest.fixture
def pairs(run_folder):
    return load_pairs(run_folder)


@pytest.fixture
def images(run_folder):
    return RunImages(run_folder)


@pytest.fixture(scope="module")
def ramp():
    """Every pixel says where it is: red its column, green its row."""
    columns, rows = np.meshgrid(np.arange(200), np.arange(100))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], 2).astype(np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_is_drawn_from_pair_and_seed(pairs, images, kind):
    def pixels(seed, some=pairs):
        negatives = ImageNegatives(kind, seed, images, pairs)
        return {pair.id: (negatives.name(pair), negatives.load(negatives.name(pair)).tobytes()) for pair in some}

    if kind == "other":  # a name without pixels of its own is another image's, which is read as such
        names = [
            {pair.id: ImageNegatives(kind, seed, images, pairs).name(pair) for pair in pairs} for seed in (0, 0, 1)
        ]
        assert names[0] == names[1] != names[2]
        return
    first = pixels(0)
    assert first == pixels(0, pairs[::-1])
    other = pixels(1)
    for pair_id, (name, content) in first.items():
        assert other[pair_id][0] != name
        assert other[pair_id][1] != content


@pytest.mark.parametrize("kind", KINDS)
def test_takes_as_many_tokens_as_the_image(make_job, images, kind):
    """Images of two sizes; `other` is of the wrong one for some pair. An image model of today counts by the size."""
    job = make_job(image_weight=1, image_negative=kind)
    batches = PairBatches(job, "pairs")
    assert batches.negatives is not None
    resized = 0
    for pair in job.pairs:
        name = batches.negatives.name(pair)
        assert batches.image_tokens(name) == batches.image_tokens(pair.image_id)
        assert batches.image(name).size == images.sizes()[pair.image_id]
        assert batches.image(name).tobytes() != images.load(pair.image_id).tobytes()
        resized += name in batches.negatives
    assert resized == len(job.pairs) if kind != "other" else 0 < resized < len(job.pairs)


def test_other_is_of_another_prompt_and_of_a_trained_pair(pairs, images, monkeypatch):
    monkeypatch.setattr(images, "prompts", lambda: {pair.image_id: str(row // 3) for row, pair in enumerate(pairs)})
    trained, held_out = pairs[1:], pairs[:1]
    for seed in range(20):
        negatives = ImageNegatives("other", seed, images, trained, held_out)
        for row, pair in enumerate(pairs):
            other = negatives._others[pair.id]
            assert other in {one.image_id for one in (pairs[3:] if row < 3 else trained[:2])}
    with pytest.raises(PrefmillError, match="needs images of two prompts") as caught:
        ImageNegatives("other", 0, images, pairs[:3])
    assert caught.value.fix == "set image_negative=crop"


def test_crop_is_an_enlarged_part(ramp):
    """Found again by its corners: in place, of the image's proportions, of 0 to 20 % of the area."""
    shares = []
    for seed in range(200):
        pixels = np.asarray(crop(ramp, np.random.default_rng(seed)), dtype=float)
        assert pixels.shape == (100, 200, 3)
        width, height = (np.ptp(pixels[..., channel]) + 1 for channel in range(2))
        assert abs(width - 2 * height) <= 4
        shares.append(width * height / (200 * 100))
    assert 0 < min(shares) < 0.01
    assert 0.17 < max(shares) < 0.22
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)


def test_noise_is_that_of_half_the_diffusion(ramp):
    """On grey, where nothing is cut off: mean and deviation by the schedule, added up in another way."""
    beta = lambda step: 1e-5 + (0.005 - 1e-5) / (1 + np.exp(6 - 12 * step / 999))  # noqa: E731
    kept = np.exp(sum(np.log1p(-beta(step)) for step in range(501)))
    grey = Image.new("RGB", (300, 200), (128, 128, 128))
    pixels = np.asarray(add_noise(grey, np.random.default_rng(0)), dtype=float) / 255
    for channel, (mean, deviation) in enumerate(
        [(0.48145466, 0.26862954), (0.4578275, 0.26130258), (0.40821073, 0.27577711)]
    ):
        expected = mean + np.sqrt(kept) * (128 / 255 - mean)
        assert pixels[..., channel].mean() == pytest.approx(expected, abs=2e-3)
        assert pixels[..., channel].std() == pytest.approx(np.sqrt(1 - kept) * deviation, rel=2e-2)
    assert 0.6 < kept < 0.9
    assert add_noise(ramp, np.random.default_rng(0)).size == ramp.size
