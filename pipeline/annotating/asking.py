"""What an annotator says of the images of prompts: requests in a seeded order, forms, and what becomes of each.

One request shows all images of a prompt and asks about one aspect, or about all together. The order of the images
depends on the prompt, the aspect and a seed; a second presentation has them in reverse, so that what an annotator owes
to the order can be told from what it sees.

For every image, aspect and presentation there is one row: an annotation (rating None: it abstained), or a reject with
the reason why the form did not come. An image that cannot be decoded is one reject, and the others are shown without
it; a prompt with one image left is asked about all the same, since ratings are absolute.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from ...engine.responders.image_ratings import ImageRatings, ratings_form, ratings_request
from ...engine.responders.interface import Failure, Reply, Request, Responder
from ...engine.responders.structured import ask_forms
from ..records import Annotation, Prompt, Reject, content_id, seed_for
from .settings import AnnotatorChoice


@dataclass(frozen=True)
class SeenPrompt:
    """A prompt with those of its images that can be seen, by their ids."""

    prompt: Prompt
    images: dict[str, Image.Image]


@dataclass(frozen=True)
class _Question:
    seen: SeenPrompt
    aspects: tuple[str, ...]
    presentation: int
    order: tuple[str, ...]


def annotate(
    responder: Responder, seen: Sequence[SeenPrompt], choice: AnnotatorChoice, stage: str
) -> tuple[list[Annotation | Reject], list[Reply]]:
    """Return a row for every image, aspect and presentation, prompt by prompt; and the replies that were made."""
    questions = [
        _Question(one, aspects, presentation, shown_order(one, aspects, presentation, choice.seed))
        for one in seen
        for presentation in range(choice.presentations)
        for aspects in choice.groups
    ]
    forms: dict[type[ImageRatings], list[int]] = {}
    for place, question in enumerate(questions):
        forms.setdefault(ratings_form(len(question.order), question.aspects), []).append(place)
    filled: dict[int, ImageRatings | Failure] = {}
    replies: list[Reply] = []
    for form, places in forms.items():
        requests = [_request(questions[place], choice, responder.key) for place in places]
        answered = ask_forms(responder, requests, form, choice.sampling)
        filled |= zip(places, answered.filled, strict=True)
        replies += answered.replies
    rows = [row for place, question in enumerate(questions) for row in _rows(question, filled[place], choice, stage)]
    return rows, replies


def shown_order(seen: SeenPrompt, aspects: Sequence[str], presentation: int, seed: int) -> tuple[str, ...]:
    """Return the ids of images in the order shown: shuffled from ids and the seed alone, in reverse the second time."""
    order = sorted(seen.images)
    random.Random(seed_for(seen.prompt.id, "order", *aspects, seed)).shuffle(order)
    return tuple(reversed(order) if presentation else order)


def _request(question: _Question, choice: AnnotatorChoice, key: str) -> Request:
    texts, prompt = choice.texts, question.seen.prompt
    text = ratings_request(prompt.text, {aspect: texts[aspect] for aspect in question.aspects}, len(question.order))
    made_from = (*question.aspects, question.presentation, *question.order)
    name = content_id("annotation", prompt.id, key, choice.name, *made_from)
    return Request(text, seed_for(name), tuple(question.seen.images[image] for image in question.order), name)


def _rows(
    question: _Question, form: ImageRatings | Failure, choice: AnnotatorChoice, stage: str
) -> list[Annotation | Reject]:
    rows: list[Annotation | Reject] = []
    ratings = None if isinstance(form, Failure) else form.ratings(question.aspects)
    for aspect in question.aspects:
        for position, image in enumerate(question.order):
            if ratings is None:
                assert isinstance(form, Failure)
                detail = f"{aspect}, presentation {question.presentation}: {form.detail}"
                rows.append(Reject(image, stage, form.reason, detail))
                continue
            rating, presentation = ratings[position][aspect], question.presentation
            made = (image, question.seen.prompt.id, choice.name, aspect, rating.rating, rating.rationale)
            rows.append(Annotation(*made, position=position, presentation=presentation))
    return rows
