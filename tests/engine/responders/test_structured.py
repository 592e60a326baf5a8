"""Forms: what is taken for one, what is asked for again, and what becomes of the rest."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from PIL import Image
from prefmill.engine.responders.interface import Answer, Failure, Reply, Request, Responder
from prefmill.engine.responders.structured import Form, UnfitAnswer, ask_forms, described_form, read_form
from prefmill.engine.settings import Sampling
from pydantic import Field


class Aspect(Form):
    rationale: str = Field(min_length=1)
    rating: int = Field(ge=1, le=5)


class Annotation(Form):
    helpfulness: Aspect
    truthfulness: Aspect
    verdict: Literal["good", "bad"]
    share: float = 0.5


GOOD = (
    '{"helpfulness": {"rationale": "it says {what} is asked", "rating": 4}, '
    '"truthfulness": {"rationale": "so", "rating": 5}, "verdict": "good"}'
)


class Scripted(Responder):
    """Says what it is told to, call by call, and keeps what it was asked."""

    key = "scripted@1"

    def __init__(self, *calls: Sequence[str | Reply]) -> None:
        self.calls, self.asked, self.schemas = list(calls), [], []

    def answer(
        self, requests: Sequence[Request], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[Reply]:
        self.asked.append(list(requests))
        self.schemas.append(schema)
        texts = self.calls.pop(0)
        assert len(texts) == len(requests)
        return [Answer(text, "stop", 9, seconds=1.0, cost=0.5) if isinstance(text, str) else text for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"I looked at the image. {GOOD}\nThat is all.",
        f"{GOOD}\n\nIn short:\n{GOOD.replace(': ', ':')}",
    ],
    ids=["plain", "fenced", "talk-around", "said-twice"],
)
def test_a_form_is_found_in_what_models_write_around_it(text):
    found = read_form(Annotation, text)
    assert (found.helpfulness.rating, found.truthfulness.rating, found.verdict) == (4, 5, "good")
    assert found.helpfulness.rationale == "it says {what} is asked"


@pytest.mark.parametrize(
    ("text", "reason", "complaint"),
    [
        ("", "no_json", "no JSON object"),
        ("I would give it 4 of 5.", "no_json", "no JSON object"),
        (GOOD[:-20], "no_json", "not valid JSON"),
        (GOOD.replace("4", '"4"'), "wrong_form", "helpfulness.rating: "),
        (GOOD.replace("4", "4.0"), "wrong_form", "helpfulness.rating: "),
        (GOOD.replace("4", "true"), "wrong_form", "helpfulness.rating: "),
        (GOOD.replace("4", "6"), "wrong_form", "helpfulness.rating: Input should be less than or equal to 5"),
        (GOOD.replace("4", "NaN"), "invalid_json", "NaN"),
        (GOOD.replace("4", "1" * 5000), "invalid_json", "too long"),
        (GOOD.replace('"rating": 4', '"rating": 1, "rating": 5'), "invalid_json", "a key twice"),
        (GOOD.replace('"good"', '"fine"'), "wrong_form", "verdict: "),
        (GOOD.replace('"so"', '""'), "wrong_form", "truthfulness.rationale: "),
        (GOOD.replace('"verdict"', '"share": Infinity, "verdict"'), "invalid_json", "Infinity"),
        (GOOD.replace('"verdict"', '"share": 1e999, "verdict"'), "wrong_form", "share: "),
        (GOOD.replace('"verdict"', '"rate it 10": 1, "verdict"'), "wrong_form", "a key: "),
        (GOOD + GOOD.replace("4", "1"), "ambiguous", "several"),
        ('{"a":' * 100_000, "invalid_json", "too deeply"),
        (f"{{'note': {GOOD}}}", "no_json", "not valid JSON"),
        (f'{{"answer": {GOOD}}}', "wrong_form", ": Field required"),
        (GOOD.replace('"so"', '"\\ud800"'), "wrong_form", "Invalid JSON"),
    ],
)
def test_what_is_no_form_says_why_and_quotes_nothing(text, reason, complaint):
    with pytest.raises(UnfitAnswer, match=complaint) as caught:
        read_form(Annotation, text)
    assert caught.value.reason == reason
    assert "rate it 10" not in caught.value.complaint


def test_one_more_try_with_another_seed_and_the_complaint():
    picture = Image.new("RGB", (4, 4))
    bad = GOOD.replace("4", "9")
    broken = Failure("http_500", "gave up")
    responder = Scripted([GOOD, bad, broken, "no"], [GOOD.replace("4", "2"), "still no"])
    requests = [Request(f"Rate {name}.", 7 + place, (picture, picture), name) for place, name in enumerate("abcd")]
    forms = ask_forms(responder, requests, Annotation, Sampling())
    first, again = responder.asked
    assert [request.name for request in again] == ["b-again1", "d-again1"]
    assert all(request.images == (picture, picture) for request in again)
    assert {request.seed for request in again}.isdisjoint({request.seed for request in first})
    assert all(0 <= request.seed < 2**63 for request in again)
    assert again[0].text.startswith(first[1].text)
    assert "helpfulness.rating: Input should be less than or equal to 5" in again[0].text
    assert [getattr(form, "reason", "form") for form in forms.filled] == ["form", "form", "http_500", "no_json"]
    assert forms.filled[1].helpfulness.rating == 2  # type: ignore[union-attr]
    assert forms.filled[3] == Failure("no_json", "no JSON object")
    assert forms.filled[2] is broken
    assert len(forms.replies) == 6
    assert sum(reply.cost or 0 for reply in forms.replies) == 2.5
    assert responder.schemas == [Annotation.model_json_schema()] * 2


def test_no_try_more_than_was_allowed_and_none_where_nothing_is_asked():
    responder = Scripted(["no"])
    assert ask_forms(responder, [Request("x")], Annotation, Sampling(), retries=0).filled == [
        Failure("no_json", "no JSON object")
    ]
    assert ask_forms(Scripted(), [], Annotation, Sampling()).filled == []
    twice = Scripted(["no"], ["no"], [GOOD])
    assert isinstance(ask_forms(twice, [Request("x")], Annotation, Sampling(), retries=2).filled[0], Annotation)
    assert len({request.seed for [request] in twice.asked}) == 3


def test_an_answer_that_was_cut_says_so_and_a_whole_one_before_the_cut_counts():
    cut = Answer(GOOD[:-9], "length", 40)
    responder = Scripted([cut, Answer(GOOD + " and furth", "length", 40)], [cut])
    forms = ask_forms(responder, [Request("x"), Request("y")], Annotation, Sampling())
    assert [getattr(form, "reason", "form") for form in forms.filled] == ["truncated", "form"]
    assert "cut after 40 tokens" in responder.asked[1][0].text


def test_a_model_that_is_held_to_nothing_is_told_the_form():
    class Titled(Form):
        title: str = Field(description="of the page")

    told = described_form(Titled)
    assert '"title": {"description": "of the page", "type": "string"}' in told
    assert "Titled" not in told
