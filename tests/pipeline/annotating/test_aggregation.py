"""Ratings to preferences, against values computed by hand."""

import pytest
from prefmill.pipeline.annotating.aggregation import comparisons, preferences
from prefmill.pipeline.annotating.ratings import RatedPrompt
from prefmill.pipeline.annotating.settings import PreferConfig
from prefmill.pipeline.records import Annotation, ImagePreference, Prompt, Reject
from pydantic import ValidationError

PROMPT = Prompt("p", 1, "a kite", "line 1")


def rated(table):
    """{(annotator, aspect, presentation): {image: rating}} as a prompt with its annotations."""
    return RatedPrompt(
        PROMPT,
        tuple(
            Annotation(image, "p", annotator, aspect, rating, "so", place, presentation)
            for (annotator, aspect, presentation), images in table.items()
            for place, (image, rating) in enumerate(images.items())
        ),
    )


def made(table, **config):
    rows = preferences(rated(table), PreferConfig(**config), "image_preferences")
    return {
        (row.aspect, row.chosen_id, row.rejected_id): row.margin for row in rows if isinstance(row, ImagePreference)
    }


def why(table, **config):
    [reject] = preferences(rated(table), PreferConfig(**config), "image_preferences")
    assert isinstance(reject, Reject)
    assert (reject.subject_id, reject.stage) == ("p", "image_preferences")
    return reject.reason


def test_aspects_and_overall_with_weights():
    table = {
        ("x", "aesthetic", 0): {"a": 5, "b": 2, "c": 2},
        ("x", "fidelity", 0): {"a": 1, "b": 2, "c": 4},
    }
    found = made(table, weights={"aesthetic": 1.0, "fidelity": 3.0})
    # overall a - b = (3 - 3) / 4 = 0: a tie; a - c = (3 - 9) / 4; b - c = (0 - 6) / 4
    assert found == {
        ("aesthetic", "a", "b"): 3.0,
        ("aesthetic", "a", "c"): 3.0,
        ("fidelity", "b", "a"): 1.0,
        ("fidelity", "c", "a"): 3.0,
        ("fidelity", "c", "b"): 2.0,
        ("overall", "c", "a"): 1.5,
        ("overall", "c", "b"): 1.5,
    }


def test_presentations_are_averaged_and_annotators_weighed():
    table = {
        ("x", "fidelity", 0): {"a": 4, "b": 2},
        ("x", "fidelity", 1): {"a": 5, "b": 2},
        ("y", "fidelity", 0): {"a": 1, "b": 2},
    }
    # x: 4.5 - 2 = 2.5; y: -1
    assert made(table, by=("fidelity",)) == {("fidelity", "a", "b"): 0.75}
    assert made(table, by=("fidelity",), annotators={"y": 3}) == {("fidelity", "b", "a"): 0.125}
    assert made(table, by=("fidelity",), annotators={"y": 0}) == {("fidelity", "a", "b"): 2.5}


def test_only_what_was_said_of_both_compares_them():
    table = {
        ("strict", "fidelity", 0): {"a": 1, "b": None, "c": 2},
        ("mild", "fidelity", 0): {"a": 5, "b": 4, "c": 5},
    }
    # a and b by the mild one alone: by means over annotators b (4) would beat a (3)
    found = made(table, by=("fidelity",))
    assert found == {("fidelity", "a", "b"): 1.0, ("fidelity", "c", "b"): 1.0, ("fidelity", "c", "a"): 0.5}


def test_a_tie_band_and_enough_aspects():
    table = {("x", "fidelity", 0): {"a": 4, "b": 3, "c": 1}, ("x", "aesthetic", 0): {"a": 2, "b": 2}}
    assert made(table, by=("fidelity",), tie_band=1) == {("fidelity", "a", "c"): 3.0, ("fidelity", "b", "c"): 2.0}
    assert made(table, by=("overall",), minimum_aspects=2) == {("overall", "a", "b"): 0.5}
    compared = {
        (one.one, one.other): one.difference for one in comparisons(rated(table), PreferConfig(by=("aesthetic",)))
    }
    assert compared == {("a", "b"): 0.0, ("a", "c"): None, ("b", "c"): None}
    third = {("x", "fidelity", 0): {"a": 1, "b": 1}, ("y", "fidelity", 0): {"a": 2, "b": 2}}
    assert why(third, annotators={"x": 0.1, "y": 0.2}) == "identical"


@pytest.mark.parametrize(
    ("table", "config", "reason"),
    [
        ({}, {}, "unrated"),
        ({("x", "fidelity", 0): {"a": 4}}, {}, "alone"),
        ({("x", "fidelity", 0): {"a": 4, "b": 4, "c": 4}}, {}, "identical"),
        ({("x", "fidelity", 0): {"a": 4, "b": 3}}, {"tie_band": 1.0}, "tie"),
        ({("x", "fidelity", 0): {"a": None, "b": 3}}, {}, "not_comparable"),
        ({("x", "fidelity", 0): {"a": 1, "b": 3}}, {"by": ("aesthetic",)}, "not_comparable"),
    ],
)
def test_a_prompt_without_preferences_says_why(table, config, reason):
    assert why(table, **config) == reason


def test_a_preference_leads_back_to_its_prompt():
    [row, *_] = preferences(rated({("x", "fidelity", 0): {"a": 1, "b": 2}}), PreferConfig(by=("fidelity",)), "s")
    assert isinstance(row, ImagePreference)
    assert (row.prompt_id, row.prompt, row.source, row.chosen_id, row.margin) == ("p", "a kite", "line 1", "b", 1.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"weights": {"fidelity": -1.0}},
        {"weights": {"fidelity": 1.0}, "minimum_aspects": 2},
        {"by": ()},
        {"tie_band": -1},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValidationError):
        PreferConfig(**settings)
