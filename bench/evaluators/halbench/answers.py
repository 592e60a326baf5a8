"""The answers of Object HalBench: about which of COCO's images, to which question, in the script's own fields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ....base.errors import PrefmillError
from ..answering.questions import QuestionFile, coco_image_id
from ..answers.items import AnsweredItems, spoken
from ..answers.matching import GivenAnswer, answers_of, match_answers
from ..answers.records import FileRecord, read_records

IMAGES = 300
"""How many images the benchmark has, one question each."""


@dataclass(frozen=True)
class Described:
    """One answer, and what it is about."""

    image: int
    question: str
    text: str


def read_described(path: Path, questions: QuestionFile | None, *, partial: bool) -> AnsweredItems[Described]:
    """Read answers. With `questions`, exactly those have to be answered; else one question each of 300 images.

    Answers without an image_id go by the questions' order. Raises PrefmillError, unless `partial`, for whatever is
    missing, twice or unknown.
    """
    file = read_records(path, "--answers")
    given = answers_of(file, texts=("text", "answer", "response", "caption"))
    notes: list[str] = []
    if questions is not None and not any("image_id" in one.fields for one in given):
        wanted = [(int(one.row["image_id"]), str(one.row["question"])) for one in questions.questions]
        numbered = [GivenAnswer(one.place, None, one.text, one.fields) for one in given]
        matched = match_answers(numbered, list(range(len(wanted))), partial=partial, what=path.name)
    else:
        keys = [_key(one) for one in given]
        wanted = list(dict.fromkeys(keys))
        if questions is not None:
            wanted = [(int(one.row["image_id"]), str(one.row["question"])) for one in questions.questions]
        else:
            notes.append("the questions are not given (--questions): that these are the benchmark's own is not checked")
        numbers = {key: number for number, key in enumerate(wanted)}
        numbered = [
            GivenAnswer(one.place, numbers.get(key, _spelled(key)), one.text, one.fields)
            for one, key in zip(given, keys, strict=True)
        ]
        matched = match_answers(numbered, list(range(len(wanted))), by="id", partial=partial, what=path.name)
    images = len({image for image, _ in wanted})
    if images != IMAGES or len(wanted) != IMAGES:
        told = f"{len(wanted)} questions about {images} images, where Object HalBench has {IMAGES} about {IMAGES}"
        if not partial:
            raise PrefmillError(f"{path}: {told}.", "give all answers, or --allow-partial, which says so")
        notes.append(told)
    answers = tuple(
        Described(image, question, spoken(one))
        for (image, question), one in zip(wanted, matched.answers, strict=True)
        if one is not None
    )
    inputs = {"answers": file.source} | ({} if questions is None else {"questions": questions.source})
    return AnsweredItems(answers, matched.coverage, inputs, tuple(notes))


def _key(one: GivenAnswer) -> tuple[int, str]:
    question = next((one.fields[name] for name in ("prompt", "question") if one.fields.get(name)), "")
    if not isinstance(question, str):
        raise PrefmillError(f"{one.place}: the question is a {type(question).__name__}.", "correct this row")
    return coco_image_id(FileRecord(one.place, one.fields)), question


def _spelled(key: tuple[int, str]) -> str:
    return f"image {key[0]}: {key[1][:40]}"
