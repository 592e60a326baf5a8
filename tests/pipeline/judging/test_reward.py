"""A reward's score by recipe: its own, or a sum of its attributes, with everything recorded."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from prefmill.engine.scorers.attributes import ATTRIBUTES
from prefmill.pipeline.judging.reading import read_panels
from prefmill.pipeline.judging.reward import reward_scores
from prefmill.pipeline.pair_policy import JudgedAnswer
from prefmill.pipeline.records import Instruction, Reject, Response, Score
from prefmill.pipeline.sources import Panel

VALUES = np.random.default_rng(0).normal(size=(3, 19)).astype(np.float32)


class Reward:
    key = "reward@1"

    def __init__(self, values: Any = VALUES) -> None:
        self.values, self.seen = values, []

    def score(self, prompts, responses):
        self.seen += zip(prompts, responses, strict=True)
        return SimpleNamespace(
            scores=torch.tensor([0.5, 0.25, 0.125]),
            attributes=torch.tensor(self.values),
            truncated=[False, True, False],
        )


def readings_of(*texts: str, with_prompts: bool = False):
    answers = tuple(JudgedAnswer(Response(f"r{n}", "c", "i", "m", text), None) for n, text in enumerate(texts))
    panel = Panel(Instruction("i", "c", "<image>\nWhat is it?", "field"), answers, "a <image> kite")
    return read_panels([panel], "response_scores", with_prompts=with_prompts)


def test_the_models_own_score_unless_attributes_are_weighed():
    readings, _ = readings_of("one", "two", "three")
    rows: list[Any] = reward_scores(Reward(), readings, {}, "response_scores")  # type: ignore[arg-type]
    assert [row.value for row in rows] == [0.5, 0.25, 0.125]
    assert list(rows[0].attributes) == list(ATTRIBUTES)
    assert [row.truncated for row in rows] == [False, True, False]
    weights = {"helpsteer-helpfulness": 0.65, "helpsteer-verbosity": -0.4, "beavertails-is_safe": 1.0}
    weighed: list[Any] = reward_scores(Reward(), readings, weights, "response_scores")  # type: ignore[arg-type]
    expected = 0.65 * VALUES[:, 0] - 0.4 * VALUES[:, 4] + VALUES[:, 10]
    np.testing.assert_allclose([row.value for row in weighed], expected, rtol=1e-6)
    for row, plain in zip(weighed, rows, strict=True):
        assert row.attributes == {**plain.attributes, "gated": plain.value}


def test_an_attribute_that_is_no_number_costs_its_answer_where_it_counts():
    broken = VALUES.copy()
    broken[1, 4] = np.nan
    readings, _ = readings_of("one", "two", "three")
    rows = reward_scores(Reward(broken), readings, {"helpsteer-verbosity": 1.0}, "s")  # type: ignore[arg-type]
    assert [isinstance(row, Score) for row in rows] == [True, False, True]
    assert rows[1] == Reject("r1", "s", "not_finite", "scored nan")


@pytest.mark.parametrize(("with_prompts", "context"), [(False, "What is it?"), (True, "a kite\nWhat is it?")])
def test_a_judge_never_sees_the_image_marker(with_prompts, context):
    reward = Reward()
    readings, rejects = readings_of(
        "What is it? A <image> kite.", "<image>", "a<image>b", "<image>\nfine", with_prompts=with_prompts
    )
    reward_scores(reward, readings, {}, "s")  # type: ignore[arg-type]
    assert reward.seen == [(context, "A kite."), (context, "a b"), (context, "fine")]
    assert rejects == [Reject("r1", "response_scores", "empty", "nothing to judge")]
