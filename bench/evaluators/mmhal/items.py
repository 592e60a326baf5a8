"""MMHal-Bench's items with their answers: response_template.json, filled in, or answers beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ....base.errors import PrefmillError
from ..answers.items import AnsweredItems, spoken
from ..answers.matching import answers_of, match_answers
from ..answers.records import FileRecord, RecordFile, read_records

ITEMS = 96
TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
"""Of the items in their order, again and again, where the file does not name them."""


@dataclass(frozen=True)
class AnsweredItem:
    """One item; `number` is its place, from 0. `answer` is what is judged."""

    number: int
    type: str
    contents: str
    question: str
    reference: str
    answer: str


def read_items(answers: Path, questions: Path | None, *, partial: bool) -> AnsweredItems[AnsweredItem]:
    """Read answers: the official template with `model_answer`, or with `questions`, the template, answers in its order.

    Raises PrefmillError for another number of items than 96 unless `partial`, for fields that are missing, and for
    types in another order than the script counts them by.
    """
    file = read_records(answers, "--answers")
    inputs = {"answers": file.source}
    template = file
    if questions is not None:
        template = read_records(questions, "--questions", rows="items")
        inputs["questions"] = template.source
    given = answers_of(file, ids=(), texts=("model_answer", "answer", "text", "response"))
    matched = match_answers(given, list(range(len(template.records))), partial=partial, what=answers.name)
    notes: list[str] = []
    if len(template.records) != ITEMS:
        told = f"{len(template.records)} items, where MMHal-Bench has {ITEMS}"
        if not partial:
            raise PrefmillError(f"{template.name}: {told}.", "give all of them, or --allow-partial, which says so")
        notes.append(told)
    types = _types(template)
    items = []
    for number, (record, one) in enumerate(zip(template.records, matched.answers, strict=True)):
        if one is not None:
            said = (_contents(record), _text(record, "question"), _text(record, "gt_answer"), spoken(one))
            items.append(AnsweredItem(number, types[number % len(types)], *said))
    return AnsweredItems(tuple(items), matched.coverage, inputs, tuple(notes))


def _contents(record: FileRecord) -> str:
    found = record.fields.get("image_content")
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise PrefmillError(f"{record.place}: image_content is no list of names.", _FIX)
    return ", ".join(found)


def _text(record: FileRecord, name: str) -> str:
    value = record.fields.get(name)
    if not isinstance(value, str):
        raise PrefmillError(f"{record.place}: {name} is missing.", _FIX)
    return value


def _types(template: RecordFile) -> tuple[str, ...]:
    """The names of the eight types in their order, as the items call them where they do.

    The script counts types by place alone. Raises PrefmillError for an item that stands in another type's place, which
    it would count there in silence.
    """
    names: dict[int, str] = {}
    for number, record in enumerate(template.records):
        place, found = number % len(TYPES), record.fields.get("question_type")
        if not isinstance(found, str):
            continue
        wanted = names.setdefault(place, found)
        if found != wanted or any(name == found for other, name in names.items() if other != place):
            raise PrefmillError(
                f"{record.place}: the type {found!r} stands in the place of another; the script tells types by place.",
                "give the items in the order of response_template.json",
            )
    return tuple(names.get(place, name) for place, name in enumerate(TYPES))


_FIX = "give MMHal-Bench's response_template.json with the answers as model_answer, or --questions with it"
