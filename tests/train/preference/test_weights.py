"""Pairs weighted by the judge's margin."""

from dataclasses import replace

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.train.data import load_pairs
from prefmill.train.preference.weights import about, margin_weights


@pytest.fixture
def judged(run_folder):
    def make(*margins):
        return [replace(pair, margin=margin) for pair, margin in zip(load_pairs(run_folder), margins, strict=False)]

    return make


def test_weights_are_margins_of_mean_1(judged):
    pairs = judged(0.1, 0.2, 0.3, 0.2)
    assert list(margin_weights(pairs).values()) == pytest.approx([0.5, 1, 1.5, 1])
    scaled = [replace(pair, margin=100 * (pair.margin or 0)) for pair in pairs]
    assert list(margin_weights(scaled).values()) == pytest.approx([0.5, 1, 1.5, 1])


def test_an_outlier_is_clipped_and_a_doubtful_pair_does_not_count(judged):
    """The mean of 0, 0, 0, 0, 0 and 12 is 2; the outlier counts as 8, and a mean of 8 / 6 makes that 6."""
    pairs = judged(-1, 0, 0, 0, 0, 12)
    weights = list(margin_weights(pairs).values())
    assert weights == pytest.approx([0, 0, 0, 0, 0, 6])
    assert about(weights) == (
        "pairs are weighted by the judge's margin, from 0 to 6; 5 pairs, whose margin is 0 or below, do not count"
    )
    with pytest.raises(PrefmillError, match="0 or below for all 2 pairs") as caught:
        margin_weights(judged(0, -1))
    assert caught.value.fix == "set margin_weight=none"


def test_pairs_held_out_are_measured_with_the_scale_of_the_others(judged):
    pairs = judged(1, 3, 4, 100)
    weights = margin_weights(pairs[:2], pairs[2:])
    assert [weights[pair.id] for pair in pairs] == pytest.approx([0.5, 1.5, 2, 4])
