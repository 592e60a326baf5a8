"""Comparisons of generators against numbers worked out by hand."""

import math

import numpy as np
import pytest
from prefmill.bench.evaluators.generator_spread import mean_angle, mean_distance
from prefmill.bench.evaluators.generator_statistics import by_prompt, compare, compared, levels, ratio_of
from prefmill.bench.evaluators.generator_values import Evaluated

NAN = math.nan


def test_wins_ties_and_losses_are_counted_with_the_band_and_prompts_weigh_alike():
    base = np.zeros((3, 2))
    tuned = np.array([[1.0, 0.1], [-1.0, NAN], [NAN, NAN]])
    found = compare(base, tuned, band=0.1)
    assert found is not None
    assert {name: found[name] for name in ("pairs", "prompts", "wins", "ties", "losses")} == {
        **{"pairs": 3, "prompts": 2, "wins": 1, "ties": 1, "losses": 1}
    }
    # the first prompt: a win and a tie; the second: a loss; the third has no pair
    assert found["win_rate"]["mean"] == pytest.approx((0.75 + 0.0) / 2)
    assert found["difference"]["mean"] == pytest.approx((0.55 - 1.0) / 2)
    assert found["tuned"] == pytest.approx(0.1 / 3)
    # the bootstrap draws two prompts of two: the interval reaches from one prompt's value to the other's
    assert (found["win_rate"]["low"], found["win_rate"]["high"]) == (0.0, 0.75)
    assert compare(base, np.full((3, 2), NAN)) is None


def test_without_a_band_only_equal_scores_tie():
    found = compare(np.array([[0.0], [0.0]]), np.array([[0.0], [1e-9]]))
    assert found is not None
    assert (found["wins"], found["ties"]) == (1, 1)


def test_images_of_one_prompt_are_no_independent_witnesses():
    """Ten images of each of four prompts: the interval is that of four values, not of forty."""
    values = np.repeat([[0.0], [1.0], [0.0], [1.0]], 10, axis=1)
    found = compare(np.zeros_like(values), values)
    assert found is not None
    assert (found["difference"]["low"], found["difference"]["high"]) == (0.0, 1.0)
    assert by_prompt(values).tolist() == [0, 1, 0, 1]


def test_a_ratio_of_means_has_its_interval_over_the_same_prompts():
    over, under = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    ratio = ratio_of(over, under)
    assert ratio is not None
    assert (ratio.mean, ratio.low, ratio.high) == (0.5, 0.5, 0.5)  # the same ratio in every prompt: no doubt about it
    other = ratio_of(np.array([1.0, 4.0]), np.array([2.0, 4.0]))
    assert other is not None
    assert other.mean == pytest.approx(5 / 6)
    assert ratio_of(over, np.zeros(3)) is None


def test_distances_are_those_of_the_hand():
    black, grey, white = (np.full((2, 2, 3), value) for value in (0.0, 0.5, 1.0))
    assert mean_distance([black, grey, white]) == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    features = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert mean_angle(features) == pytest.approx((1 + 2 + 1) / 3)


@pytest.fixture
def found():
    """Two prompts, guidance 1 and 5, one image: the base is best at 5; tuning moves guidance 1 past that."""
    base = np.array([[[0.0], [0.6]], [[0.2], [0.8]]])
    tuned = np.array([[[0.9], [0.6]], [[0.9], [NAN]]])
    spreads = {"base": np.array([[2.0, 1.0], [4.0, 1.0]]), "t": np.array([[1.0, 1.0], [2.0, NAN]])}
    harm = {"base": np.array([[[1.0], [0.0]], [[1.0], [0.0]]]), "t": np.zeros((2, 2, 1))}
    ids = {"base": np.full((2, 2, 1), "a"), "t": np.full((2, 2, 1), "b")}
    return Evaluated([], (1.0, 5.0), ids, {"clip": {"base": base, "t": tuned}}, {"who": harm}, {"pixels": spreads})


def test_all_comparisons_are_made_by_guidance_and_against_the_bases_best(found):
    result = compared(found, {"clip": 0.0})["t"]
    clip = result["preference"]["clip"]
    assert clip["1"]["difference"]["mean"] == pytest.approx(0.8)
    assert (clip["5"]["pairs"], clip["5"]["ties"]) == (1, 1)
    assert clip["all"]["pairs"] == 3
    assert clip["against_best"]["guidance"] == 5.0
    assert clip["against_best"]["difference"]["1"]["mean"] == pytest.approx(0.2)  # 0.9 - 0.6 and 0.9 - 0.8
    assert result["diversity"]["pixels"]["1"]["ratio"]["mean"] == pytest.approx(0.5)
    assert result["diversity"]["pixels"]["5"]["prompts"] == 1
    assert result["diversity"]["pixels"]["all"]["ratio"]["mean"] == pytest.approx(1.0 / 1.5)  # the whole prompt alone
    assert result["harmful"]["who"]["1"]["difference"]["mean"] == -1.0
    assert levels(found)["clip"]["t"] == {"1": pytest.approx(0.9), "5": pytest.approx(0.6)}
