"""Measures over counts: their values by hand, and their intervals against a bootstrap without shortcuts."""

import numpy as np
import pytest
from prefmill.base.hallucination import Share
from prefmill.bench.evaluators.answers.evaluation import ItemTable, Measure, Term, draws_of, measured, value_of
from prefmill.bench.evaluators.measures import RESAMPLINGS

RIGHT, RATE = Share("right", ("items",)), Share("right", ("items", "said"), 2.0)


@pytest.fixture(scope="module")
def items():
    random = np.random.default_rng(3)
    counts = [{"items": 1, "right": int(random.random() < 0.7), "said": int(random.random() < 0.5)} for _ in range(60)]
    groups, categories = [f"image{number // 4}" for number in range(60)], [("a", "b")[n % 2] for n in range(60)]
    return ItemTable.of([str(number) for number in range(60)], groups, categories, counts, "right")


def test_values_and_intervals_are_those_of_drawn_images(items):
    measures = [
        Measure("a", "rate", (Term(RATE, ("a",)),), scale=100),
        Measure("both", "mean", (Term(RIGHT, ("a",), 0.5), Term(RATE, ("b",), -0.5)), constant=1),
    ]
    right, said = (items.columns[name] for name in ("right", "said"))
    one = np.array([name == "a" for name in items.categories])

    def by_hand(kept):
        first = 100 * 2 * right[kept & one].sum() / (one[kept].sum() + said[kept & one].sum())
        a, b = kept & one, kept & ~one
        rate = 2 * right[b].sum() / (b.sum() + said[b].sum())
        return first, 1 + 0.5 * right[a].mean() - 0.5 * rate

    assert [value_of(each, items) for each in measures] == pytest.approx(by_hand(np.ones(60, dtype=bool)))
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(2000):
        picks = np.concatenate([np.arange(4) + 4 * image for image in random.integers(15, size=15)])
        a, b = picks[one[picks]], picks[~one[picks]]
        rates = [2 * right[each].sum() / (len(each) + said[each].sum()) for each in (a, b)]
        drawn.append((100 * rates[0], 1 + 0.5 * right[a].mean() - 0.5 * rates[1]))
    theirs = np.percentile(drawn, [2.5, 97.5], axis=0)
    for place, row in enumerate(measured(measures, items)):
        spread = theirs[1][place] - theirs[0][place]
        assert [row["low"], row["high"]] == pytest.approx(list(theirs[:, place]), abs=0.08 * spread)
    assert {len(draws) for draws in draws_of(measures, items)} == {RESAMPLINGS}


def test_a_share_of_nothing_leaves_a_measure_undefined(items):
    measure = Measure("x", "x", (Term(RIGHT, ("a",)), Term(RIGHT, ("nowhere",))))
    [row] = measured([measure], items)
    assert (row["value"], row["low"], row["high"]) == (None, None, None)


def test_what_a_measure_is_a_share_of_is_told(items):
    [row] = measured([Measure("a", "rate", (Term(RATE, ("a",)),))], items)
    assert row["value"] == row["over"] / row["of"]
    assert row["over"] == 2 * sum(
        right for right, name in zip(items.columns["right"], items.categories, strict=True) if name == "a"
    )
