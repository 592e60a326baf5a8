"""Agreement against textbook values: Cohen's own form of example, Wilson's interval, and counts done by hand."""

import pytest
from prefmill.pipeline.viewing.human_agreement import JudgedPair, agreement_with_judge, cohens_kappa, wilson


def test_kappa_and_intervals_of_the_textbooks():
    # 20 yes/yes, 5, 10, 15 no/no of 50: observed 0.7, by chance 0.5 -> 0.4
    assert cohens_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert cohens_kappa([[45, 15], [25, 15]]) == pytest.approx(0.1304, abs=1e-4)
    assert cohens_kappa([[7, 0], [0, 0]]) is None
    assert cohens_kappa([[0, 0], [0, 0]]) is None
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_agreement_by_responder_counts_both_sides_of_a_pair():
    pairs = [
        *[JudgedPair("1", "2", True, "a", "b")] * 3,
        *[JudgedPair("2", "1", False, "a", "b")] * 1,
        *[JudgedPair("1", "2", True, "b", "a")] * 2,
        *[JudgedPair("1", "2", False, "b", "c")] * 2,
    ]
    found = agreement_with_judge(pairs)
    assert (found["pairs"], found["agreed"], found["share"]) == (8, 5, 5 / 8)
    a = found["responders"]["a"]
    assert (a["pairs"], a["agreed"], a["judge_prefers"], a["people_prefer"]) == (6, 5, 4, 3)
    # for a: judge a and person a 3, judge a and person other 1, judge other and person other 2
    assert a["kappa"] == pytest.approx(cohens_kappa([[3, 1], [0, 2]]))
    assert found["responders"]["c"] | {"interval": 0} == {
        **{"pairs": 2, "agreed": 0, "share": 0.0, "interval": 0, "kappa": 0.0},
        **{"judge_prefers": 0, "people_prefer": 2},
    }
    assert agreement_with_judge([])["share"] is None
