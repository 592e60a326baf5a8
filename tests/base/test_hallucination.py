"""The formulas of hallucination's evaluations against values worked out by hand, and sums without shortcuts."""

from math import comb

import pytest
from prefmill.base.hallucination import CHAIR, YES_OR_NO, Share, mcnemar, shares_of, yes_or_no_counts


@pytest.mark.parametrize(
    ("mended", "broken", "p"),
    [(5, 0, 2 / 32), (0, 5, 2 / 32), (3, 1, 2 * (1 + 4) / 16), (2, 2, 1.0), (0, 0, 1.0), (64, 1, 2 * 66 / 2**65)],
)
def test_mcnemar_by_hand(mended, broken, p):
    before = [True] * mended + [False] * broken + [True, False]
    after = [False] * mended + [True] * broken + [True, False]
    assert mcnemar(before, after) == (mended, broken, pytest.approx(p))
    assert comb(65, 1) + 1 == 66


def test_mcnemar_of_many_is_the_sum_of_all_splits():
    before = [True] * 400 + [False] * 350
    after = [False] * 400 + [True] * 350
    direct = 2 * sum(comb(750, count) for count in range(351)) / 2**750
    assert mcnemar(before, after) == (400, 350, pytest.approx(direct, rel=1e-12))


def test_a_share_of_nothing_is_none():
    assert Share("a", ("b", "c"), 2.0).of({"a": 3, "b": 4, "c": 8}) == 0.5
    assert Share("a", ("b",)).of({"a": 0, "b": 0}) is None


def test_yes_or_no_is_the_confusion_matrix():
    """Against the textbook's formulas of a confusion matrix, with answers that are neither."""
    said = [True] * 7 + [False] * 5 + [None] * 3
    truths = [True] * 5 + [False] * 2 + [True, False, False, False, False] + [True, True, False]
    found = shares_of(YES_OR_NO, yes_or_no_counts(said, truths))
    precision, recall = 5 / (5 + 2), 5 / (5 + 1 + 2)
    assert found == pytest.approx(
        {
            "accuracy": (5 + 4) / 15,
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall),
            "said_ratio": 7 / 15,
        }
    )


def test_chair_divides_by_what_each_share_is_of():
    counts = [
        {"items": 1, "named": 3, "invented": 1, "inventive": 1, "there": 4, "found": 2},
        {"items": 1, "named": 2, "invented": 0, "inventive": 0, "there": 1, "found": 1},
    ]
    assert shares_of(CHAIR, counts) == pytest.approx({"chair_i": 1 / 5, "chair_s": 1 / 2, "recall": 3 / 5})
