"""The statistics of annotators, against values computed by hand."""

import math

import pytest
from prefmill.pipeline.annotating.presentations import Places, Swaps
from prefmill.pipeline.annotating.ratings import RatedPrompt
from prefmill.pipeline.annotating.settings import PreferConfig
from prefmill.pipeline.annotating.statistics import Correlations, Levels, PairCounts
from prefmill.pipeline.records import Annotation, Prompt


def rated(*requests):
    """Requests (aspect, presentation, [(image, rating) in the order shown]) of the annotator x."""
    rows = [
        Annotation(image, "p", "x", aspect, rating, "so", position, presentation)
        for aspect, presentation, shown in requests
        for position, (image, rating) in enumerate(shown)
    ]
    return RatedPrompt(Prompt("p", 1, "t", "s"), tuple(rows))


def gathered(into, *prompts):
    for prompt in prompts:
        into.add(prompt)
    return into


def test_how_often_each_level_was_given():
    prompt = rated(("fidelity", 0, [("a", 1), ("b", 4), ("c", None)]), ("fidelity", 1, [("a", 1), ("b", 2)]))
    numbers = gathered(Levels(), prompt).measure()["fidelity by x"]
    # of 1, 4, 1, 2: mean 2, variance (1 + 4 + 1 + 0) / 4
    assert numbers == {
        **{"ratings": 4, "mean": 2.0, "deviation": round(math.sqrt(1.5), 6)},
        **{"share_of_1": 0.5, "share_of_2": 0.25, "share_of_3": 0.0, "share_of_4": 0.25, "share_of_5": 0.0},
    }


def test_how_aspects_go_together():
    prompt = rated(
        ("aesthetic", 0, [("a", 1), ("b", 2), ("c", 3)]),
        ("fidelity", 0, [("a", 2), ("b", 4), ("c", 3)]),
        ("harmlessness", 0, [("a", 5), ("b", 5), ("c", 5)]),
    )
    found = gathered(Correlations({}), prompt).measure()
    # deviations (-1, 0, 1) and (-1, 1, 0): 1 / sqrt(2 * 2)
    assert found["aesthetic and fidelity"] == {"images": 3, "pearson": 0.5}
    assert found["aesthetic and harmlessness"] == {"images": 3, "pearson": None}
    assert "prompt_following and fidelity" not in found


def test_ties_are_counted():
    prompt = rated(("fidelity", 0, [("a", 1), ("b", 1), ("c", 3)]), ("aesthetic", 0, [("a", 2), ("b", 4), ("c", None)]))
    found = gathered(PairCounts(PreferConfig(by=("overall", "fidelity", "aesthetic"))), prompt).measure()
    assert found["fidelity"] == {"compared": 3, "preferences": 2, "ties": 1, "not_compared": 0, "tie_share": 0.333333}
    assert found["aesthetic"] == {"compared": 1, "preferences": 1, "ties": 0, "not_compared": 2, "tie_share": 0.0}
    assert found["overall"] == {"compared": 3, "preferences": 3, "ties": 0, "not_compared": 0, "tie_share": 0.0}


def test_what_the_place_has_to_do_with_the_rating():
    first = rated(("fidelity", 0, [("a", 5), ("b", 3), ("c", 3)]))
    second = rated(("fidelity", 0, [("d", 4), ("e", None), ("f", 5)]))
    found = gathered(Places(), first, second).measure()
    # the first place wins twice of three: ab, ac won, df lost; the second was compared once, the third twice
    assert found["1 with x"] == {"ratings": 2, "mean": 4.5, "win_share": round(2 / 3, 6)}
    assert found["2 with x"] == {"ratings": 1, "mean": 3.0, "win_share": 0.0}
    assert found["3 with x"] == {"ratings": 2, "mean": 4.0, "win_share": 0.5}


def test_what_a_swapped_order_changes():
    prompt = rated(
        ("fidelity", 0, [("a", 5), ("b", 3), ("c", 3)]),
        ("fidelity", 1, [("c", 4), ("b", 4), ("a", 2)]),
        ("aesthetic", 0, [("a", 1), ("b", 2)]),  # once only
    )
    found = gathered(Swaps(), prompt).measures()
    # ab and ac have a winner in both, and it changes; bc ties in both
    assert found["order swap"]["x"] == {"pairs": 3, "flipped": 1.0, "changed": round(2 / 3, 6)}
    assert found["self-consistency"]["x"] == {"images": 3, "same": 0.0, "mean_difference": round(5 / 3, 6)}
    steady = rated(("fidelity", 0, [("a", 5), ("b", 3)]), ("fidelity", 1, [("b", 3), ("a", 5)]))
    found = gathered(Swaps(), prompt, steady).measures()
    assert found["order swap"]["x"]["flipped"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["self-consistency"]["x"]["same"] == 0.4
    assert gathered(Swaps(), rated(("fidelity", 0, [("a", 5)]))).measures() == {
        "order swap": {},
        "self-consistency": {},
    }
