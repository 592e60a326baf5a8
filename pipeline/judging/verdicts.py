"""What a chat model that sees the image says of answers: ratings, or comparisons turned into scores.

Every request quotes the texts as data (`quoting.py`) and asks for a form (`engine/responders/structured.py`). A form
that did not come, or not as asked, is a reject of its answer; the others go on.

Comparisons are made in both orders, since a judge that prefers whatever comes first would otherwise decide by the
order. A comparison counts where both orders were answered. An answer's score is the share of its comparisons that it
wins, a tie or two orders that contradict each other counting one half: among answers that were all compared with each
other this ranks as a Bradley-Terry fit does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, TypeVar

from PIL import Image
from pydantic import Field

from ...engine.responders.interface import Failure, Reply, Request, Responder
from ...engine.responders.quoting import quote
from ...engine.responders.structured import Form, ask_forms
from ..records import Judgement, Reject, content_id, seed_for
from .reading import ReadAnswer, ReadPanel
from .settings import JudgeChoice

RATE = (
    "You judge an assistant's answer to a question about the image. Look at the image first: what the answer says must "
    "be there to be seen. Judge whether it is right, whether it answers what was asked, and whether it is clear; "
    "length is no merit. 1 is wrong or useless, 10 could not be better."
)
COMPARE = (
    "You compare two answers of assistants, A and B, to a question about the image. Look at the image first: what an "
    "answer says must be there to be seen. The better one is right, answers what was asked, and is clear; neither "
    "length nor the order of the two is a merit."
)


class RatingForm(Form):
    """One answer's."""

    reason: str = Field(min_length=1, max_length=1000, description="why, in a sentence")
    score: int = Field(ge=1, le=10)


class ComparisonForm(Form):
    """Of two answers."""

    reason: str = Field(min_length=1, max_length=1000, description="why, in a sentence")
    better: Literal["A", "B", "tie"]


@dataclass(frozen=True)
class SeenPanel:
    """What is judged, with the image that it is about."""

    reading: ReadPanel
    image: Image.Image


F = TypeVar("F", bound=Form)


def rate(
    responder: Responder, seen: Sequence[SeenPanel], choice: JudgeChoice, stage: str
) -> tuple[list[Judgement | Reject], list[Reply]]:
    """Rate every answer by itself; also returns the replies that were made."""
    asked = [(one, answer) for one in seen for answer in one.reading.answers]
    requests, cut = [], []
    for one, answer in asked:
        texts = {**_question(one.reading), "answer": answer.text}
        text, was_cut = quote(texts, choice.longest_answer)
        name = content_id("judgement", answer.response.id, responder.key, choice.name)
        requests.append(_request(f"{RATE}\n\n{text}", one.image, name))
        cut.append(was_cut)
    ratings, replies = _ask(responder, requests, RatingForm, choice)
    outcome: list[Judgement | Reject] = []
    for (_, answer), rating, was_cut in zip(asked, ratings, cut, strict=True):
        if isinstance(rating, Failure):
            outcome.append(Reject(answer.response.id, stage, rating.reason, rating.detail))
        else:
            value = float(rating.score)
            outcome.append(Judgement(answer.response.id, responder.key, value, was_cut, None, rating.reason))
    return outcome, replies


def compare(
    responder: Responder, seen: Sequence[SeenPanel], choice: JudgeChoice, stage: str
) -> tuple[list[Judgement | Reject], list[Reply]]:
    """Compare every two answers to a question in both orders; also returns the replies that were made."""
    asked = [(one, first, second) for one in seen for first, second in permutations(one.reading.answers, 2)]
    requests = []
    for one, first, second in asked:
        text, _ = quote(
            {**_question(one.reading), "answer A": first.text, "answer B": second.text}, choice.longest_answer
        )
        name = content_id("comparison", first.response.id, second.response.id, responder.key, choice.name)
        requests.append(_request(f"{COMPARE}\n\n{text}", one.image, name))
    forms, replies = _ask(responder, requests, ComparisonForm, choice)
    made = {
        (first.response.id, second.response.id): form for (_, first, second), form in zip(asked, forms, strict=True)
    }
    outcome: list[Judgement | Reject] = []
    for one in seen:
        cut = any(len(answer.text) > choice.longest_answer for answer in one.reading.answers)
        for answer in one.reading.answers:
            verdict = _share_of_wins(answer, one.reading.answers, made)
            if isinstance(verdict, Failure):
                outcome.append(Reject(answer.response.id, stage, verdict.reason, verdict.detail))
                continue
            share, facts = verdict
            outcome.append(Judgement(answer.response.id, responder.key, share, cut, facts))
    return outcome, replies


def _share_of_wins(
    answer: ReadAnswer, answers: Sequence[ReadAnswer], made: dict[tuple[str, str], ComparisonForm | Failure]
) -> tuple[float, dict[str, float]] | Failure:
    """The share of its comparisons that an answer wins, with how many there were, or why there was none."""
    own = answer.response.id
    failure = Failure("alone", "no other answer to compare it with")
    wins, consistent, counted = 0.0, 0, 0
    for other in answers:
        if other is answer:
            continue
        ahead, behind = made[own, other.response.id], made[other.response.id, own]
        if isinstance(ahead, Failure):
            failure = ahead
        elif isinstance(behind, Failure):
            failure = behind
        else:
            first, second = _points(ahead, "A"), _points(behind, "B")
            wins += (first + second) / 2
            consistent += first == second
            counted += 1
    if not counted:
        return failure
    return wins / counted, {"comparisons": float(counted), "same_in_both_orders": consistent / counted}


def _points(comparison: ComparisonForm, own: str) -> float:
    return 0.5 if comparison.better == "tie" else float(comparison.better == own)


def _question(reading: ReadPanel) -> dict[str, str]:
    described = {} if reading.prompt is None else {"description the image was made from": reading.prompt}
    return {**described, "question": reading.instruction}


def _request(text: str, image: Image.Image, name: str) -> Request:
    return Request(text, seed_for(name), (image,), name)


def _ask(
    responder: Responder, requests: Sequence[Request], form: type[F], choice: JudgeChoice
) -> tuple[list[F | Failure], list[Reply]]:
    filled: list[F | Failure] = []
    replies: list[Reply] = []
    for start in range(0, len(requests), choice.batch_size):  # an instruction brings several requests
        forms = ask_forms(responder, requests[start : start + choice.batch_size], form, choice.sampling)
        filled += forms.filled
        replies += forms.replies
    return filled, replies
