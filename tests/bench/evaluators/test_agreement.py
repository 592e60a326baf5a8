"""The rules on cases small enough to count by hand, and the bootstrap against what it must say."""

import numpy as np
import pytest
from prefmill.bench.evaluators.agreement import (
    best_is_among,
    correct_pairs,
    decided_pairs,
    equal_pairs,
    share_not_inverted,
    tie_aware_choice,
)
from prefmill.bench.evaluators.measures import RESAMPLINGS, Ratio, Resampling, plain


def test_pairs_that_people_decided():
    assert list(decided_pairs((1, 2, 2))) == [(0, 1), (0, 2)]
    assert list(decided_pairs((3, 1))) == [(1, 0)]


def test_equal_scores_are_wrong_for_imagereward_and_the_earlier_image_first_for_hpsv2():
    pairs = list(decided_pairs((1, 2, 3)))
    assert correct_pairs(pairs, (1.0, 1.0, 0.0)) == 2
    assert equal_pairs(pairs, (1.0, 1.0, 0.0)) == 1
    assert share_not_inverted((1, 2, 3), (1.0, 1.0, 0.0)) == 1
    assert share_not_inverted((2, 1, 3), (1.0, 1.0, 0.0)) == pytest.approx(2 / 3)


def test_a_tie_of_people_is_never_inverted():
    assert share_not_inverted((1, 1, 2), (0.0, 5.0, -1.0)) == 1
    assert share_not_inverted((1, 1, 2), (0.0, 5.0, 9.0)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("ranks", "scores", "k", "found"),
    [
        ((1, 2, 3), (5, 1, 2), 1, True),
        ((1, 2, 3), (1, 5, 2), 2, False),
        ((1, 2, 3), (2, 5, 1), 2, True),
        ((1, 2, 3), (5, 5, 1), 1, False),
        ((1, 1, 3), (0, 5, 1), 1, True),
    ],
)
def test_the_best_among_the_highest(ranks, scores, k, found):
    assert best_is_among(ranks, scores, k) is found


@pytest.mark.parametrize(
    ("ranks", "difference", "earned"),
    [((1, 2), 3, 1), ((2, 1), 3, 0), ((1, 1), 3, 0.5), ((1, 2), 0.1, 0.5), ((1, 1), 0.1, 1), ((1, 1), -3, 0.5)],
)
def test_a_choice_between_two(ranks, difference, earned):
    assert tie_aware_choice(ranks, (difference, 0), 0.2) == earned


def test_the_bootstrap_draws_prompts():
    """Ten items of one prompt say no more than one: the interval is that of the prompts."""
    prompts = [f"prompt {number // 10}" for number in range(400)]
    right = [float(number // 10 % 2) for number in range(400)]
    ratio, alone = Ratio(right, [1.0] * 400), Ratio(right[::10], [1.0] * 40)
    by_prompt, naive = Resampling(prompts), Resampling([str(number) for number in range(400)])
    assert by_prompt.interval(ratio) == Resampling([str(number) for number in range(40)]).interval(alone)
    wide, narrow = by_prompt.interval(ratio), naive.interval(ratio)
    assert wide
    assert narrow
    expected = 1.96 * 0.5 / 40**0.5
    assert wide.high - wide.mean == pytest.approx(expected, rel=0.1)
    assert narrow.high - narrow.mean == pytest.approx(expected / 10**0.5, rel=0.1)


def test_differences_are_drawn_together():
    random = np.random.default_rng(0)
    one = random.random(100)
    resampling = Resampling([str(number) for number in range(100)])
    same = Ratio(list(one), [1.0] * 100)
    difference = resampling.difference(same, Ratio(list(one + 0.01), [1.0] * 100))
    assert difference
    assert (difference.low, difference.high) == pytest.approx((-0.01, -0.01))
    assert len(resampling.values(same)) == RESAMPLINGS


def test_a_share_of_nothing_has_no_value():
    nothing = Ratio([0.0, 0.0], [0.0, 0.0])
    resampling = Resampling(["a", "b"])
    assert plain(nothing, resampling) == {"value": None, "low": None, "high": None, "over": 0, "of": 0, "items": 0}
    assert resampling.difference(nothing, nothing) is None


def test_one_prompt_alone_has_no_interval():
    found = plain(Ratio([1.0, 0.0], [1.0, 1.0]), Resampling(["a", "a"]))
    assert found == {"value": 0.5, "low": None, "high": None, "over": 1, "of": 2, "items": 2}
