"""Mixtures against numpy, and what becomes of scores that are missing."""

import numpy as np
import pytest
from prefmill.pipeline.judging.mixture import JudgedPanel, mixed, standardised
from prefmill.pipeline.records import Reject, Score

REWARD, CRITIC = [0.11, 0.14, 0.12, 0.05], [7.0, 9.0, 4.0, 4.0]


def z(values):
    return (np.array(values) - np.mean(values)) / np.std(values)


def test_scores_are_standardised_and_weighed():
    panel = JudgedPanel(("a", "b", "c", "d"), {"reward": REWARD, "critic": CRITIC}, frozenset({"b"}))
    rows = mixed(panel, {"reward": 1.0, "critic": 0.5}, "response_scores")
    scores = [row for row in rows if isinstance(row, Score)]
    np.testing.assert_allclose([row.value for row in scores], (z(REWARD) + 0.5 * z(CRITIC)) / 1.5)
    assert [row.subject_id for row in scores] == ["a", "b", "c", "d"]
    assert scores[1].attributes == {"reward": 0.14, "critic": 9.0}
    assert [row.truncated for row in scores] == [False, True, False, False]
    assert {row.scorer for row in scores} == {"mixture of reward 1, critic 0.5"}


def test_the_units_of_a_judge_do_not_count():
    weights = {"reward": 1.0, "critic": 1.0}
    rows = [
        mixed(JudgedPanel(("a", "b", "c", "d"), {"reward": REWARD, "critic": critic}), weights, "s")
        for critic in (CRITIC, [value * 100 - 3 for value in CRITIC])
    ]
    one, other = ([row.value for row in found if isinstance(row, Score)] for found in rows)
    assert len(one) == 4
    assert one == pytest.approx(other)


def test_a_judge_of_weight_0_is_recorded_and_counts_for_nothing():
    panel = JudgedPanel(("a", "b", "c", "d"), {"reward": REWARD, "critic": [None, *CRITIC[1:]]})
    rows = mixed(panel, {"reward": 2.0, "critic": 0.0}, "s")
    np.testing.assert_allclose([row.value for row in rows], z(REWARD))  # type: ignore[union-attr]
    assert [row.attributes for row in rows][:2] == [{"reward": 0.11}, {"reward": 0.14, "critic": 9.0}]  # type: ignore[union-attr]


def test_an_answer_that_a_judge_did_not_score_is_set_aside_and_the_others_are_compared():
    panel = JudgedPanel(("a", "b", "c", "d"), {"reward": REWARD, "critic": [7.0, None, 4.0, 5.0]})
    rows = mixed(panel, {"reward": 1.0, "critic": 1.0}, "response_scores")
    assert rows[1] == Reject("b", "response_scores", "unjudged", "no score of critic")
    expected = (z([0.11, 0.12, 0.05]) + z([7.0, 4.0, 5.0])) / 2
    np.testing.assert_allclose([row.value for row in rows if isinstance(row, Score)], expected)


def test_a_judge_that_said_nothing_of_an_instruction_is_left_out_there():
    panel = JudgedPanel(("a", "b", "c", "d"), {"reward": REWARD, "critic": [None] * 4})
    rows = mixed(panel, {"reward": 1.0, "critic": 3.0}, "s")
    np.testing.assert_allclose([row.value for row in rows], z(REWARD))  # type: ignore[union-attr]
    assert {row.scorer for row in rows if isinstance(row, Score)} == {"mixture of reward 1"}
    silent = JudgedPanel(("a",), {"reward": [None], "critic": [None]})
    assert mixed(silent, {"reward": 1.0, "critic": 3.0}, "s") == [
        Reject("a", "s", "unjudged", "no score of reward, critic")
    ]


def test_a_judge_that_sees_no_difference_says_nothing():
    assert standardised([5.0, 5.0, 5.0]) == [0.0] * 3
    assert standardised([0.1 + 0.2, 0.3]) == [0.0] * 2  # rounding is no opinion
    assert standardised([0.3, 0.30001]) == pytest.approx([-1.0, 1.0])
    assert standardised([]) == []
    rows = mixed(JudgedPanel(("a", "b"), {"reward": [1.0, 2.0], "critic": [5, 5]}), {"reward": 1, "critic": 1}, "s")
    assert [row.value for row in rows if isinstance(row, Score)] == [-0.5, 0.5]
