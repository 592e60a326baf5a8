"""The objects that answers name, found by a model: as Object HalBench's numbers are made, with a model of one's choice.

The model is asked for a JSON list of names; answers of up to three words name nothing. The request is ours unless a
template is given; which one it was is in the report, by its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ....base.errors import PrefmillError
from ....base.progress import Progress
from ....engine.responders.interface import Failure, Reply
from ....engine.responders.quoting import quote
from ....engine.responders.settings import ModelChoice
from ....engine.settings import EngineSettings, Sampling
from ..answering.asking import UNFIT, AskedItem, ask_items

SAMPLING = Sampling(max_new_tokens=512)
SHORT = 3
"""Words of an answer that is taken to name nothing, at most."""
REQUEST = (
    "An assistant was asked about an image. List the objects that its answer says are to be seen in the image: only "
    "those that the answer names, by their names alone, without colours, materials, numbers or other properties. "
    'Answer with one JSON list of strings, such as ["dog", "dining table"]; with [] where it names none.'
)
REQUEST_VERSION = "prefmill-1"
_LONGEST = 20_000


@dataclass(frozen=True)
class Extraction:
    """The names in each answer, in their order, or why they are not known; who found them and how they were asked."""

    names: Sequence[list[str] | Failure]
    model: str
    template: str
    template_sha256: str
    asked: int


def extract_objects(
    answers: Sequence[tuple[str, str]],
    choice: ModelChoice,
    folder: Path,
    progress: Progress,
    *,
    template: str | None = None,
    engine: EngineSettings | None = None,
) -> Extraction:
    """Ask for the objects that each (question, answer) names; replies are kept in `folder`.

    `template` holds {question} and {answer}. Raises PrefmillError as the model does, and for a template without them.
    """
    if template is not None and not all(place in template for place in ("{question}", "{answer}")):
        raise PrefmillError("the template lacks {question} or {answer}.", "put both where they belong")
    items = [
        AskedItem(f"answer-{number}", _request(question, answer, template), SAMPLING)
        for number, (question, answer) in enumerate(answers)
        if len(answer.split()) > SHORT
    ]
    found = ask_items(items, choice, folder, progress, engine=engine, task="objects", accept=_fault) if items else None
    replies = dict(zip((item.name for item in items), found.replies if found else (), strict=True))
    names = [_names(replies.get(f"answer-{number}")) for number in range(len(answers))]
    version = "given" if template is not None else REQUEST_VERSION
    digest = hashlib.sha256((template or REQUEST).encode()).hexdigest()
    return Extraction(names, found.model if found else choice.model, version, digest, found.asked if found else 0)


def listed(text: str) -> list[str] | None:
    """Return the last JSON list of strings in a text; None where there is none."""
    decoder = json.JSONDecoder()
    found: list[str] | None = None
    place = text.find("[")
    while place != -1:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            value, end = None, place + 1
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            found = value
        else:
            end = place + 1
        place = text.find("[", end)
    return found


def _fault(text: str) -> Failure | None:
    return None if listed(text) is not None else Failure(UNFIT, "no JSON list of names")


def _request(question: str, answer: str, template: str | None) -> str:
    if template is not None:
        before, _, after = template.partition("{question}")
        return before.replace("{answer}", answer) + question + after.replace("{answer}", answer)
    quoted, _ = quote({"question": question, "answer": answer}, _LONGEST)
    return f"{REQUEST}\n\n{quoted}"


def _names(reply: Reply | None) -> list[str] | Failure:
    """What a reply names; nothing where nobody was asked."""
    if isinstance(reply, Failure):
        return reply
    return (listed(reply.text) if reply else None) or []
