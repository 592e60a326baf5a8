"""Settings refuse values that only look like the one meant."""

import pytest
from prefmill.base.settings import Settings, Text
from pydantic import Field, ValidationError


class Drawing(Settings):
    steps: int = Field(default=28, ge=1)
    scales: tuple[float, ...] = (5.0,)
    seed: int | None = None
    texts: tuple[Text, ...] = ()
    sharp: bool = False
    """Whether edges are kept."""


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("steps", True, "a number is needed"),
        ("seed", False, "a number is needed"),
        ("scales", [5.0, True], "a number is needed"),
        ("steps", 10**23, "out of range"),
        ("scales", [10**400], "out of range"),
        ("scales", [float("nan")], "finite"),
        ("scales", [float("-inf")], "finite"),
        ("texts", ["fine", " \n"], "must not be empty"),
        ("texts", ["half a pair \ud83d"], "not text"),
        ("texts", ["a\0b"], "not text"),
        ("stpes", 1, "Extra inputs"),
    ],
)
def test_what_is_not_meant_is_refused(field, value, word):
    with pytest.raises(ValidationError, match=word):
        Drawing.model_validate({field: value})


def test_what_is_meant_is_taken_and_frozen():
    given = {"steps": 3, "scales": [1, 2.5], "sharp": True, "seed": 2**63 - 1, "texts": ["🎈"]}
    drawing = Drawing.model_validate(given)
    assert drawing == Drawing(steps=3, scales=(1.0, 2.5), sharp=True, seed=2**63 - 1, texts=("🎈",))
    with pytest.raises(ValidationError, match="frozen"):
        drawing.steps = 4  # pyright: ignore[reportAttributeAccessIssue]


def test_the_text_below_a_field_describes_it():
    assert Drawing.model_fields["sharp"].description == "Whether edges are kept."
