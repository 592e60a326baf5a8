"""Which answers are set against each other, by strategy; and why others are not."""

import pytest
from prefmill.pipeline.pairs.choosing import Choice, FitAnswer, choose, closeness

BEST = "a red bird sits on a thin branch above the still lake in the morning"
TEXTS = {
    "best": (BEST, 1.0),
    "close": ("a red bird sits on a thin branch above the still lake in the evening", 0.9),
    "alike": ("a blue bird sits on a thin branch below the still lake in the morning", 0.4),
    "other": ("there are two boats", 0.3),
    "worst": ("the sky is dark and a ship passes by while people look at it from far away", 0.0),
}


def decide(names=tuple(TEXTS), **settings):
    answers = [FitAnswer(name, *TEXTS[name]) for name in names]
    pairs, refusals = choose(answers, Choice(**settings))
    return [(chosen.id, rejected.id) for chosen, rejected in pairs], {
        " ".join(refusal.answers): refusal.reason for refusal in refusals
    }


@pytest.mark.parametrize(
    ("strategy", "rejected"), [("best_worst", "worst"), ("best_second", "close"), ("hard", "alike")]
)
def test_the_best_stands_against_whom_the_strategy_says(strategy, rejected):
    assert decide(strategy=strategy) == ([("best", rejected)], {})
    assert decide(tuple(reversed(TEXTS)), strategy=strategy) == ([("best", rejected)], {})


def test_hard_takes_the_closest_of_the_clearly_worse_only():
    # "close" is closest, but only a tenth of the way down to the worst
    assert decide(strategy="hard", clearly_worse=0.05)[0] == [("best", "close")]
    assert decide(strategy="hard", clearly_worse=1.0)[0] == [("best", "worst")]


def test_closeness_is_the_mean_of_likeness_and_of_lengths():
    # 3-word sequences {abc, bcd} and {abc}: half is shared; 3 words to 4
    left, right = FitAnswer("l", "a b c d", 1), FitAnswer("r", "a b c", 0)
    assert closeness(left, right) == pytest.approx((1 / 2 + 3 / 4) / 2)


def test_second_passes_over_answers_within_the_margin():
    assert decide(strategy="best_second", minimum_margin=0.5)[0] == [("best", "alike")]
    assert decide(("best", "close"), strategy="best_second", minimum_margin=0.5) == ([], {"": "margin"})


def test_all_pairs_above_a_margin_and_a_reason_for_every_other():
    pairs, refusals = decide(("best", "close", "worst"), strategy="all", minimum_margin=0.2)
    assert pairs == [("best", "worst"), ("close", "worst")]
    assert refusals == {"best close": "margin"}


def test_all_pairs_take_the_same_text_once():
    answers = [FitAnswer(name, text, score) for name, text, score in (("a", BEST, 3), ("b", BEST, 2), ("c", "no", 1))]
    pairs, refusals = choose(answers, Choice(strategy="all", length_ratio=None))
    assert [(chosen.id, rejected.id) for chosen, rejected in pairs] == [("a", "c")]
    assert [(refusal.answers, refusal.reason) for refusal in refusals] == [(("b",), "duplicate")]


def test_lengths_can_be_matched():
    # 15 words against 17, 4 and 15
    assert decide(("best", "alike", "other", "worst"), length_ratio=1.1) == (
        [("best", "alike")],
        {"worst": "length", "other": "length"},
    )
    pairs, refusals = decide(("best", "other"), length_ratio=3.7)
    assert (pairs, refusals) == ([], {"other": "length", "": "too_few_answers"})
    assert decide(("best", "other"), length_ratio=3.75)[0] == [("best", "other")]  # 15 to 4


def test_equal_scores_are_a_tie_under_every_strategy():
    answers = [FitAnswer(name, text, 0.5) for name, (text, _) in TEXTS.items()]
    for strategy in ("best_worst", "best_second", "hard"):
        pairs, refusals = choose(answers, Choice(strategy=strategy))
        assert not pairs
        assert [(refusal.answers, refusal.reason) for refusal in refusals] == [((), "tie")]
    assert not choose(answers, Choice(strategy="all"))[0]
