"""Pruning on the predicted image: who survives, and that survivors are drawn as if nobody had looked."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.sd3.pruning import Pruning, draw_pruned, survivors
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.settings import EngineSettings

PROMPTS = ["a red cat"] * 3 + ["two dogs"] * 3
GUIDANCE, SEEDS = [3.0, 5.0, 7.0] * 2, [1, 2, 3, 4, 5, 6]
SIZE: Any = {"steps": 4, "width": 32, "height": 32}


class Known:
    """A scorer with scores of its own, which keeps what it was shown."""

    def __init__(self, values):
        self.values, self.seen = torch.tensor(values), []

    def preprocess(self, images):
        self.seen.append(images)
        return images

    def score(self, pixels, prompts):
        assert list(prompts) == PROMPTS
        return SimpleNamespace(values=self.values)


@pytest.fixture(scope="module")
def engine(engine_checkpoints):
    return TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), EngineSettings(device="cpu"))


def pruned(engine, scores, after=2, keep=1, group=3):
    scorer = Known(scores)
    return scorer, draw_pruned(engine, PROMPTS, GUIDANCE, SEEDS, Pruning(cast(Any, scorer), after, keep), group, **SIZE)


def test_the_best_of_each_group_survive_in_their_order_and_the_first_of_equals():
    scores = torch.tensor([0.1, 0.9, 0.9, 2.0, -1.0, 3.0, float("-inf"), float("-inf"), float("-inf")])
    assert survivors(scores, 3, 1).tolist() == [1, 5, 6]
    assert survivors(scores, 3, 2).tolist() == [1, 2, 3, 5, 6, 7]


def test_survivors_are_unchanged_and_the_look_is_at_the_predicted_image(engine):
    scorer, got = pruned(engine, [0.0, 1.0, float("nan"), 5.0, 4.0, 3.0])
    assert got.rows == [1, 3]
    assert got.early == [0.0, 1.0, float("-inf"), 5.0, 4.0, 3.0]
    whole = engine.generate(PROMPTS, GUIDANCE, SEEDS, **SIZE)
    difference = got.drawn.images.int() - whole.images[[1, 3]].int()
    assert difference.abs().max() <= 1  # a rounding that the batch's composition can tip
    states = engine.denoise(PROMPTS, GUIDANCE, SEEDS, **SIZE)
    with torch.inference_mode():
        second = [next(states) for _ in range(2)][-1]
        expected = (engine.decode(second.clean()) * 255).round().to(torch.uint8)
    assert torch.equal(scorer.seen[0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"after": 4}, "after step 4 of 4 saves nothing"), ({"keep": 3}, "keeping 3 of 3"), ({"after": 0}, "step 0")],
)
def test_pruning_that_prunes_nothing(engine, options, message):
    with pytest.raises(PrefmillError, match=message):
        pruned(engine, [0.0] * 6, **options)
