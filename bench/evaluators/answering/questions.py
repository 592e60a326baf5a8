"""A benchmark's questions about images, and the row that an answer to each becomes, as the official scripts read it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ....base.errors import PrefmillError
from ..answers.records import FileRecord, InputFile, read_records

T = TypeVar("T")


@dataclass(frozen=True)
class BenchmarkQuestion:
    """One question. Its image lies under the first of `images` that is there, or is `embedded` in the file.

    `row` becomes an answer's, with the text in its `answer_field`. `short`: one word answers it.
    """

    id: str
    text: str
    images: tuple[str, ...]
    row: dict[str, Any]
    answer_field: str
    short: bool = False
    embedded: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class QuestionFile:
    """A file's questions in their order, no id twice."""

    source: InputFile
    questions: tuple[BenchmarkQuestion, ...]


def read_questions(benchmark: str, path: Path) -> QuestionFile:
    """Read the questions of objhal or mmhal.

    Raises PrefmillError, which names the row, for what is no question of the benchmark and an id that occurs twice.
    """
    file = read_records(path, "--questions", rows="questions")
    found: dict[str, BenchmarkQuestion] = {}
    for number, record in enumerate(file.records, 1):
        question = FORMATS[benchmark](record, number)
        if question.id in found:
            raise PrefmillError(f"{record.place}: the question {question.id} occurs twice", "remove one of the two")
        found[question.id] = question
    return QuestionFile(file.source, tuple(found.values()))


def _objhal(record: FileRecord, number: int) -> BenchmarkQuestion:
    """Several questions may be about one image, so the place in the file tells them apart."""
    image = coco_image_id(record)
    text = _text(record, "question", "prompt", "text")
    given = record.fields.get("image")
    names = tuple(f"{prefix}{image:012d}.jpg" for prefix in ("COCO_val2014_", "COCO_train2014_", ""))
    embedded = None
    if isinstance(given, str) and len(given) > 500:  # longer than any file's name
        embedded = _decoded(given, record)
    elif isinstance(given, str) and given:
        names = (given, PurePosixPath(given).name, *names)
    elif isinstance(path := record.fields.get("image_path"), str):  # on the machine of whoever wrote the file
        names = (PurePosixPath(path).name, *names)
    return BenchmarkQuestion(
        str(number), text, names, {"image_id": image, "question": text}, "answer", embedded=embedded
    )


def _mmhal(record: FileRecord, number: int) -> BenchmarkQuestion:
    source = _text(record, "image_src")
    names = (PurePosixPath(source).name, f"{record.fields.get('image_id')}.jpg")
    return BenchmarkQuestion(str(number), _text(record, "question"), names, dict(record.fields), "model_answer")


FORMATS: dict[str, Callable[[FileRecord, int], BenchmarkQuestion]] = {
    "objhal": _objhal,
    "mmhal": _mmhal,
}


def coco_image_id(record: FileRecord) -> int:
    """Return COCO's number of a record's image: `image_id`, or what the file name in it ends with.

    Raises PrefmillError where there is none.
    """
    value = record.fields.get("image_id", record.fields.get("image"))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    digits = PurePosixPath(value).stem.rpartition("_")[2] if isinstance(value, str) and len(value) <= 500 else ""
    if not (digits.isascii() and digits.isdigit()):
        raise PrefmillError(f"{record.place}: no image_id of COCO.", "give the number in the image's file name")
    return int(digits)


def _text(record: FileRecord, *names: str) -> str:
    value = next((record.fields[name] for name in names if record.fields.get(name)), None)
    if not isinstance(value, str):
        held = ", ".join(map(str, record.fields)) or "nothing"
        raise PrefmillError(f"{record.place}: no {names[0]}: it holds {held}.", "give the benchmark's own questions")
    return value


def _decoded(text: str, record: FileRecord) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise PrefmillError(f"{record.place}: the image is no base64 ({error}).", "correct this row") from error


def first_of(questions: Sequence[T], limit: int | None) -> Sequence[T]:
    """Return so many questions, spread evenly over the file, since its parts differ; all of them where None."""
    if limit is None or limit >= len(questions):
        return questions
    return [questions[place * len(questions) // limit] for place in range(limit)]
