"""Which answer belongs to which question: by id, or by order where there are no ids, and never by guess.

What does not fit is counted. Any of it stops an evaluation, since the official scripts go on in silence and score
answers against other questions; `--allow-partial` evaluates the questions that were answered, and says how many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ....base.errors import PrefmillError
from .records import FileRecord, RecordFile

Id = int | str
Match = Literal["id", "order"]

ODD = ("missing", "null", "duplicate", "conflicting", "zero", "out_of_range", "unknown", "foreign")
"""What of an `AnswerCoverage` stops an evaluation."""

ID_FIELDS = ("question_id", "id")
TEXT_FIELDS = ("answer", "response", "text")
_WHOLE = re.compile("-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """One answer of a file. `id` is None where its row has none, `text` where it is null."""

    place: str
    id: Id | None
    text: str | None
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerCoverage:
    """How answers fit the questions, in questions or in rows of answers.

    `questions` asked, `answered` of them; `rows` of answers; `missing` questions; rows with a null answer, with the id
    of a row before (of which `conflicting` say something else), with the id 0, an id outside the questions' range, and
    another id that no question has; rows that repeat another question than the one of their id (`foreign`). `empty`
    counts answers without a word, which are answers.
    """

    questions: int
    answered: int
    rows: int
    missing: int = 0
    null: int = 0
    duplicate: int = 0
    conflicting: int = 0
    zero: int = 0
    out_of_range: int = 0
    unknown: int = 0
    foreign: int = 0
    empty: int = 0

    @property
    def whole(self) -> bool:
        """Whether every question has exactly one answer, and every row is one."""
        return not any(getattr(self, name) for name in ODD)

    def __add__(self, other: AnswerCoverage) -> AnswerCoverage:
        return AnswerCoverage(**{name: count + getattr(other, name) for name, count in asdict(self).items()})

    def __str__(self) -> str:
        said = [f"{self.answered:,} of {self.questions:,} questions answered, by {self.rows:,} rows"]
        for name in (*ODD, "empty"):
            if count := getattr(self, name):
                said.append(f"{count:,} {name.replace('_', ' ')}")
        return "; ".join(said)


@dataclass(frozen=True)
class Matched:
    """The answer of every question, in the questions' order: None where there is none."""

    answers: tuple[GivenAnswer | None, ...]
    coverage: AnswerCoverage
    by: Match


def answers_of(
    file: RecordFile, *, ids: Sequence[str] = ID_FIELDS, texts: Sequence[str] = TEXT_FIELDS
) -> list[GivenAnswer]:
    """Return a file's answers: of the fields named, the first that a row has.

    A number that is spelled as a text or as 12.0 is the id 12. Raises PrefmillError for a row without an answer, and
    for what is no text or no id.
    """
    return [GivenAnswer(one.place, id_of(one, ids), _text(one, texts), one.fields) for one in file.records]


def match_answers(
    answers: Sequence[GivenAnswer],
    ids: Sequence[Id],
    *,
    by: Match | None = None,
    partial: bool = False,
    what: str = "",
    belongs: Callable[[GivenAnswer, int], bool] | None = None,
) -> Matched:
    """Return the answers of the questions with these ids. `by` None: by id where all rows have one, by order where none
    has. `what` is said in errors: which answers these are. `belongs` is asked of an answer and the place of its
    question whether what the row repeats of the question (its text, its image) is that question's.

    With `partial` the first answer of an id counts. Raises PrefmillError for anything that does not fit (see
    `AnswerCoverage`) unless `partial`; for ids on some rows alone; for another number of rows where they go by order;
    and where no question is answered.
    """
    with_id = sum(one.id is not None for one in answers)
    if by is None and 0 < with_id < len(answers):
        without = next(one for one in answers if one.id is None)
        raise PrefmillError(
            f"{without.place}: no id, which {with_id:,} of {len(answers):,} rows have", "give all rows an id, or none"
        )
    if by == "id" and with_id < len(answers):
        without = next(one for one in answers if one.id is None)
        raise PrefmillError(f"{without.place}: no id", "give every row its question's id, or match by order")
    by = by or ("id" if with_id else "order")
    matched = (_by_id if by == "id" else _by_order)(answers, ids, belongs or (lambda _, __: True))
    coverage, place = matched.coverage, f"{what or 'the answers'}: "
    if not coverage.answered:
        raise PrefmillError(f"{place}none belongs to a question ({coverage})", "give the answers to these questions")
    if not coverage.whole and not partial:
        raise PrefmillError(
            f"{place}they do not fit the questions: {coverage}{_examples(matched, answers, ids)}",
            "correct them, or give --allow-partial, which evaluates the questions that are answered and says how many",
        )
    return matched


_Belongs = Callable[[GivenAnswer, int], bool]


def _by_order(answers: Sequence[GivenAnswer], ids: Sequence[Id], belongs: _Belongs) -> Matched:
    if len(answers) != len(ids):
        raise PrefmillError(
            f"{len(answers):,} answers without ids to {len(ids):,} questions: which belongs to which is not known",
            "give one answer per question in the questions' order, or ids",
        )
    null = sum(one.text is None for one in answers)
    foreign = [not belongs(one, place) for place, one in enumerate(answers)]
    found = tuple(None if other or one.text is None else one for one, other in zip(answers, foreign, strict=True))
    return Matched(found, _coverage(found, len(answers), null=null, foreign=sum(foreign)), "order")


def _by_id(answers: Sequence[GivenAnswer], ids: Sequence[Id], belongs: _Belongs) -> Matched:
    places = {name: place for place, name in enumerate(ids)}
    by_id: dict[Id, GivenAnswer] = {}
    odd: dict[str, int] = dict.fromkeys(ODD[1:], 0)
    strangers = _Strangers(ids)
    for one in answers:
        if one.id is None:
            continue
        if one.id not in places:
            odd[strangers.kind(one.id)] += 1
        elif one.text is None:
            odd["null"] += 1
        elif not belongs(one, places[one.id]):
            odd["foreign"] += 1
        elif one.id in by_id:
            odd["duplicate"] += 1
            odd["conflicting"] += by_id[one.id].text != one.text
        else:
            by_id[one.id] = one
    found = tuple(by_id.get(name) for name in ids)
    return Matched(found, _coverage(found, len(answers), **odd), "id")


def _coverage(found: Sequence[GivenAnswer | None], rows: int, **odd: int) -> AnswerCoverage:
    given = [one for one in found if one is not None]
    empty = sum(not (one.text or "").strip() for one in given)
    return AnswerCoverage(len(found), len(given), rows, missing=len(found) - len(given), empty=empty, **odd)


class _Strangers:
    """What an id is that no question has."""

    def __init__(self, ids: Sequence[Id]) -> None:
        numbers = [one for one in ids if isinstance(one, int)]
        self.range = (min(numbers), max(numbers)) if numbers else None

    def kind(self, name: Id) -> str:
        if not isinstance(name, int) or self.range is None:
            return "unknown"
        if name == 0:
            return "zero"
        return "unknown" if self.range[0] <= name <= self.range[1] else "out_of_range"


def _examples(matched: Matched, answers: Sequence[GivenAnswer], ids: Sequence[Id]) -> str:
    """The first of what is missing, and of the rows that do not fit."""
    missing = [name for name, one in zip(ids, matched.answers, strict=True) if one is None]
    used = {id(one) for one in matched.answers}
    odd = [one for one in answers if id(one) not in used]
    said = [f"no answer to question {missing[0]}"] if missing else []
    said += [f"{odd[0].place} has id {odd[0].id}" + (" and null" if odd[0].text is None else "")] if odd else []
    return f" ({'; '.join(said)})" if said else ""


def id_of(record: FileRecord, names: Sequence[str] = ID_FIELDS) -> Id | None:
    """Return a record's id, None where it has none. Raises PrefmillError for what is no id."""
    value = next((record.fields[name] for name in names if record.fields.get(name) is not None), None)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        spelled = value.strip()
        return int(spelled) if _WHOLE.fullmatch(spelled) else spelled
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise PrefmillError(f"{record.place}: {str(value)[:40]!r} is no id", "correct this row")


def _text(record: FileRecord, names: Sequence[str]) -> str | None:
    name = next((name for name in names if name in record.fields), None)
    if name is None:
        held = ", ".join(map(str, record.fields)) or "nothing"
        raise PrefmillError(f"{record.place}: no answer: it holds {held}", f"call its field one of {', '.join(names)}")
    value = record.fields[name]
    if value is None or isinstance(value, str):
        return value
    raise PrefmillError(f"{record.place}: {name!r} is a {type(value).__name__}, not text", "correct this row")
