"""What annotators are shown, and that every image, aspect and presentation ends as one row, whatever they say."""

import json
from collections import Counter

import pytest
from PIL import Image
from prefmill.engine.responders.image_ratings import ASPECTS
from prefmill.engine.responders.interface import Answer, Failure, Responder
from prefmill.pipeline.annotating.asking import SeenPrompt, annotate, shown_order
from prefmill.pipeline.annotating.settings import AnnotatorChoice
from prefmill.pipeline.records import Annotation, Prompt, Reject
from pydantic import ValidationError

RATINGS = {"a": 1, "b": 3, "c": 5, "d": None}
"""An image's rating is told by its width."""


def seen(*names, prompt="p"):
    widths = {name: 10 + place for place, name in enumerate(RATINGS)}
    return SeenPrompt(
        Prompt(prompt, 1, f"a kite of {prompt}", "s"), {n: Image.new("RGB", (widths[n], 8)) for n in names}
    )


class Annotator(Responder):
    """Rates an image by its width; `spoil(text, request)` makes something else of the answer."""

    key = "annotator@1"

    def __init__(self, spoil=lambda text, request: text):
        self.spoil, self.asked = spoil, []

    def answer(self, requests, sampling, schema=None):
        self.asked += requests
        replies = []
        for request in requests:
            said = [
                {"rationale": f"width {image.width}", "rating": list(RATINGS.values())[image.width - 10]}
                for image in request.images
            ]
            if "ImageByAspects" in request.text:
                said = [dict.fromkeys(ASPECTS, entry) for entry in said]
            text = self.spoil(json.dumps({"images": said}), request)
            replies.append(text if isinstance(text, Failure) else Answer(text, "stop", 5))
        return replies


def choice(**settings):
    return AnnotatorChoice(name="one", model="m", **settings)


def counted(rows):
    return Counter((row.subject_id, getattr(row, "aspect", None)) for row in rows)


def test_a_row_for_every_image_aspect_and_presentation():
    annotator = Annotator()
    made, replies = annotate(annotator, [seen("a", "b", "c", "d"), seen("b", prompt="q")], choice(presentations=2), "s")
    rows = [row for row in made if isinstance(row, Annotation)]
    assert len(rows) == len(made)
    assert len(rows) == (4 + 1) * 4 * 2
    assert len(replies) == len(annotator.asked) == 2 * 4 * 2
    assert all(row.rating == RATINGS[row.subject_id] for row in rows)
    assert {row.aspect for row in rows} == set(ASPECTS)
    assert [row.reason for row in rows if row.subject_id == "c"] == ["width 12"] * 8
    for request in annotator.asked:  # positions are those of the request
        assert len({one.name for one in annotator.asked}) == len(annotator.asked)
        assert "Rate each by itself." in request.text
    first = [row for row in rows if (row.prompt_id, row.aspect, row.presentation) == ("p", "fidelity", 0)]
    again = [row for row in rows if (row.prompt_id, row.aspect, row.presentation) == ("p", "fidelity", 1)]
    assert [row.subject_id for row in first] == [row.subject_id for row in reversed(again)]
    assert [row.position for row in first] == [row.position for row in again] == [0, 1, 2, 3]


def test_the_order_comes_from_ids_and_the_seed_alone():
    orders = {seed: shown_order(seen("a", "b", "c", "d"), ["fidelity"], 0, seed) for seed in range(40)}
    assert len(set(orders.values())) > 12  # of 24
    firsts = Counter(order[0] for order in orders.values())
    assert set(firsts) == set("abcd")
    assert orders[3] == shown_order(seen("d", "c", "b", "a"), ["fidelity"], 0, 3)
    assert orders[3] == tuple(reversed(shown_order(seen("a", "b", "c", "d"), ["fidelity"], 1, 3)))
    assert len({shown_order(seen("a", "b", "c", "d"), [aspect], 0, 0) for aspect in ASPECTS}) > 1


def test_all_aspects_together_are_one_request():
    annotator = Annotator()
    rows, _ = annotate(annotator, [seen("a", "b")], choice(together=True), "s")
    assert len(annotator.asked) == 1
    assert counted(rows) == {(image, aspect): 1 for image in "ab" for aspect in ASPECTS}
    assert {row.position for row in rows if isinstance(row, Annotation) and row.subject_id == "a"} in ({0}, {1})


def longer(text):
    said = json.loads(text)
    return json.dumps({"images": [*said["images"], said["images"][0]]})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (longer, "wrong_count"),
        (lambda text: text.replace("3", "7"), "out_of_range"),
        (lambda text: "I'm sorry, I can't help with that.", "refusal"),
        (lambda text: "All four are lovely.", "no_json"),
        (lambda text: text[:30], "no_json"),
        (lambda text: text + text.replace("1", "2"), "ambiguous"),
        (lambda text: text.replace("rationale", "reason"), "wrong_form"),
        (lambda text: Failure("content_filter", "no"), "content_filter"),
    ],
    ids=["five-for-four", "out-of-range", "refusal", "prose", "cut", "two-answers", "other-keys", "filtered"],
)
def test_what_cannot_be_read_is_a_reject_of_each_image_with_its_reason(spoil, reason):
    annotator = Annotator(lambda text, request: spoil(text) if "Rate FIDELITY" in request.text else text)
    rows, replies = annotate(annotator, [seen("a", "b", "c", "d")], choice(), "stage")
    rejects = [row for row in rows if isinstance(row, Reject)]
    assert [(row.reason, row.stage) for row in rejects] == [(reason, "stage")] * 4
    assert {row.subject_id for row in rejects} == set("abcd")
    assert all(row.detail.startswith("fidelity, presentation 0: ") for row in rejects)
    assert len(rows) == 16
    assert len(replies) == (4 if reason == "content_filter" else 5)  # once more where it could help


def test_a_form_that_comes_at_the_second_try_counts():
    def spoil(text, request):
        return text if "An earlier reply could not be used" in request.text else longer(text)

    rows, replies = annotate(Annotator(spoil), [seen("a", "b")], choice(aspects=("fidelity",)), "s")
    assert [row.rating for row in sorted(rows, key=lambda row: row.subject_id)] == [1, 3]  # type: ignore[union-attr]
    assert len(replies) == 2


def test_rubrics_of_ones_own_are_what_is_asked():
    annotator = Annotator()
    annotate(
        annotator, [seen("a")], choice(aspects=("fidelity", "aesthetic"), rubrics={"fidelity": "how sharp ?"}), "s"
    )
    assert "how sharp ?" in annotator.asked[0].text
    assert "Rate AESTHETICS" in annotator.asked[1].text


@pytest.mark.parametrize(
    "settings",
    [
        {"aspects": ("fidelity", "fidelity")},
        {"aspects": ("taste",)},
        {"presentations": 3},
        {"rubrics": {"fidelity": " "}},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValidationError):
        choice(**settings)


def test_prompts_at_a_time_fit_the_backend():
    assert choice().batch_size == 8
    assert choice(backend="openai_batch").batch_size == 128
    assert choice(backend="openai", batch_size=5).batch_size == 5
    assert (choice(together=True, presentations=2).requests, choice().requests) == (2, 4)
