"""Mixtures of image scorers: the sum of what each says alone."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.image_inputs import ImagePreprocessing
from prefmill.engine.scorers.catalogue import load_image_scorer, load_mixture
from prefmill.engine.scorers.interface import ImageScorer
from prefmill.engine.scorers.mixture import MixtureScorer
from prefmill.engine.settings import EngineSettings

CPU = EngineSettings(device="cpu")
PICTURES = [Image.new("RGB", (20, 30), (red, 90, 200 - red)) for red in (10, 90, 200)]
PROMPTS = ["a red cat", "dogs", "a kite " * 30]


class Toy(ImageScorer):
    """The mean of one channel of what it reads, which is as large as it likes."""

    def __init__(self, size: int, channel: int, *, squash: bool = False) -> None:
        self.key, self.inputs, self.channel = f"toy@{size}", ImagePreprocessing(size, squash=squash), channel
        self.runner = None  # type: ignore[assignment]  # nothing is run

    def score_pixels(self, pixels, prompts):
        values = pixels[:, self.channel].flatten(1).mean(1)
        values = values.masked_fill(torch.tensor([prompt == "overflow" for prompt in prompts]), math.inf)
        return values, [len(prompt) > 100 * self.channel for prompt in prompts]


def test_each_part_reads_the_image_in_its_own_way_and_the_scores_add_up():
    parts = {"small": Toy(4, 0), "large": Toy(9, 2, squash=True)}
    mixture = MixtureScorer(parts, {"large": -0.5, "small": 2.0})
    pixels = mixture.preprocess(PICTURES)
    assert pixels.shape == (3, 3 * 16 + 3 * 81)
    alone = {name: part.score(part.preprocess(PICTURES), PROMPTS) for name, part in parts.items()}
    scores = mixture.score(pixels, PROMPTS)
    torch.testing.assert_close(scores.values, 2 * alone["small"].values - 0.5 * alone["large"].values)
    torch.testing.assert_close(scores.parts, {name: found.values for name, found in alone.items()})
    assert scores.truncated == [True] * 3  # the small one has read none of them to the end
    assert mixture.key == "2*toy@4+-0.5*toy@9"
    assert mixture.rank("a red cat", PICTURES).ranks == [3, 2, 1]


def test_a_row_does_not_depend_on_the_others_and_a_broken_one_costs_itself():
    mixture = MixtureScorer({"small": Toy(4, 0), "large": Toy(9, 2)}, {"small": 1.0, "large": 1.0})
    pixels = torch.cat([mixture.preprocess([picture]) for picture in PICTURES])
    good = mixture.score(pixels, PROMPTS).values
    pixels[1, -1] = math.nan
    found = mixture.score(pixels, ["overflow", *PROMPTS[1:]])
    assert found.values.isfinite().tolist() == [False, False, True]
    assert found.values[2] == good[2]
    assert found.parts["small"].isfinite().tolist() == [False, True, True]


def test_wrong_pixels_are_named():
    mixture = MixtureScorer({"small": Toy(4, 0)}, {"small": 1.0})
    with pytest.raises(PrefmillError, match=r"pixels are \[1, 3, 4, 4\], not \[1, 48\]"):
        mixture.score(torch.zeros(1, 3, 4, 4), ["a"])
    with pytest.raises(PrefmillError, match="1 images came with 2 prompts"):
        mixture.score(torch.zeros(1, 48), ["a", "b"])
    assert mixture.score(torch.zeros(0, 48), []).values.shape == (0,)


def test_loaded_by_name_with_all_that_runs_its_networks(engine_checkpoints):
    sources = {"clip": str(engine_checkpoints["clip"]), "blip": str(engine_checkpoints["blip"])}
    mixture = load_mixture({"clip": 30.0, "blip": 1.0}, sources, CPU)
    assert [runner.network.name for runner in mixture.runners] == ["blip_matching", "clip_image", "clip_text"]
    assert mixture.key == load_mixture({"blip": 1.0, "clip": 30.0}, sources, CPU).key
    alone = {name: load_image_scorer(name, source, CPU) for name, source in sources.items()}
    expected = {name: scorer.score(scorer.preprocess(PICTURES), PROMPTS) for name, scorer in alone.items()}
    decoded = torch.stack([torch.from_numpy(np.array(picture)) for picture in PICTURES])
    scores = mixture.score(mixture.preprocess(decoded.permute(0, 3, 1, 2)), PROMPTS)
    torch.testing.assert_close(scores.values, 30 * expected["clip"].values + expected["blip"].values)
    assert scores.truncated == [
        a or b for a, b in zip(expected["clip"].truncated, expected["blip"].truncated, strict=True)
    ]
