"""What the rows of other people's tables say: an image, an answer, or a preference pair, in the formats in use.

    pds-dpo  {id, image, conversations, rejected_conversations}, each [human, gpt]; the question carries "<image>"
    llava    {id, image, conversations} alone is an answer; with {chosen, rejected} it is a pair
    trl      {images | image, prompt, chosen, rejected}, plain strings or messages with role and content
    jsonl    plain columns: {image, question, chosen, rejected}, or for an answer {prompt_id, model, text}

A row that says none of this raises `BadRow` with the reason for its reject. Answers are kept to the byte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from ...base.errors import PrefmillError
from ...base.tables.table import BadRow, Row, Table
from ..image_marker import without_marker

Format = Literal["auto", "jsonl", "pds-dpo", "llava", "trl"]
Shape = Literal["pair", "answer"]

IMAGE_FIELDS = ("image", "images", "image_path", "path", "file_name", "file")
PROMPT_FIELDS = ("prompt", "text", "caption")
ANSWER_FIELDS = ("raw_text", "text", "answer", "response")
QUESTION_FIELDS = ("instruction", "question")
PICKED_FIELDS = ("picked", "selected", "picked_by_imagereward")
SETTING_FIELDS = ("seed", "guidance", "steps", *PICKED_FIELDS)
LOOK_AT = 100  # rows, to tell a format
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class ImageSaid:
    """An image by its path as written, or by its bytes, or both. Neither: its bytes were left out by a scan."""

    path: str | None
    data: bytes | None


@dataclass(frozen=True, slots=True)
class AnswerSaid:
    """An answer and what it names its image by."""

    model: str
    text: str
    question: str | None
    image: str | None
    prompt: str | None


@dataclass(frozen=True, slots=True)
class PairSaid:
    """A preference pair's texts; `name` is the input's own id for it."""

    name: str | None
    question: str
    chosen: str
    rejected: str


def shape_of(table: Table, format: Format, option: str) -> tuple[Format, Shape]:
    """Return the format of a table's rows and what they are. Raises PrefmillError saying what was found."""
    seen: dict[str, None] = {}
    faults = 0
    for row in islice(table.scan(), LOOK_AT):
        faults += row.fault is not None
        if found := _shape(row.fields):
            # plain columns go by both names
            if format not in ("auto", found[0]) and {format, found[0]} != {"jsonl", "trl"}:
                raise PrefmillError(f"{table.name} holds {found[0]} rows, not {format}", "leave --format away")
            return found
        seen |= dict.fromkeys(row.fields)
    what = f"the fields {', '.join(seen)}" if seen else f"no readable row ({faults} of the first {LOOK_AT} are broken)"
    raise PrefmillError(
        f"{table.name} is none of the known formats: its rows have {what}",
        f"give {option} rows with conversations, with chosen and rejected, or with one of {', '.join(ANSWER_FIELDS)}",
    )


def _shape(fields: dict[str, Any]) -> tuple[Format, Shape] | None:
    if "conversations" in fields:
        if "rejected_conversations" in fields:
            return "pds-dpo", "pair"
        return "llava", "pair" if "rejected" in fields else "answer"
    if "chosen" in fields and "rejected" in fields:
        return "trl", "pair"
    return ("jsonl", "answer") if any(name in fields for name in ANSWER_FIELDS) else None


def image_said(fields: dict[str, Any]) -> ImageSaid | None:
    """Return the image a row names or holds, None where it names none. Raises BadRow several_images, no_image."""
    value = first_of(fields, IMAGE_FIELDS)
    if isinstance(value, list):
        if len(value) > 1:
            raise BadRow("several_images", f"{len(value)} images, where one is expected")
        value = value[0] if value else None
    if value is None:
        return None
    if isinstance(value, str):
        return ImageSaid(value, None)
    if isinstance(value, bytes):
        return ImageSaid(None, value)
    if isinstance(value, dict) and {"bytes", "path"} & value.keys():
        path, data = value.get("path"), value.get("bytes")
        return ImageSaid(path if isinstance(path, str) else None, data if isinstance(data, bytes) else None)
    raise BadRow("no_image", f"the image is a {type(value).__name__}, not a path or bytes")


def answer_said(fields: dict[str, Any]) -> AnswerSaid:
    """Return the answer of a row. Raises BadRow no_text, empty, unsupported_conversation, several_images."""
    model = text_in(fields, ("model",)) or "imported"
    if "conversations" in fields:
        question, text = _exchange(fields["conversations"])
    else:
        question, text = text_in(fields, QUESTION_FIELDS), first_of(fields, ANSWER_FIELDS)
        if text is None:
            raise BadRow("no_text", f"none of the fields {', '.join(ANSWER_FIELDS)}")
        if not isinstance(text, str):
            raise BadRow("no_text", f"the answer is a {type(text).__name__}")
    if not text.strip():
        raise BadRow("empty", f"{model} said nothing")
    image = text_in(fields, ("image_id",))
    if image is None and (said := image_said(fields)):
        image = said.path
    question = without_marker(question) if question else None
    return AnswerSaid(model, text, question or None, image, text_in(fields, ("prompt_id",)))


def pair_said(fields: dict[str, Any]) -> PairSaid:
    """Return the pair of a row. Raises BadRow unsupported_conversation, question_mismatch, empty_*, duplicate."""
    if "rejected_conversations" in fields:
        (question, chosen), (other, rejected) = (
            _exchange(fields.get(side)) for side in ("conversations", "rejected_conversations")
        )
        if without_marker(other) != without_marker(question):
            raise BadRow("question_mismatch", f"chosen answers {question[:60]!r}, rejected answers {other[:60]!r}")
    else:
        asked = fields.get("conversations") or first_of(fields, ("prompt", *QUESTION_FIELDS))
        (question, chosen), (other, rejected) = (_side(asked, fields.get(side)) for side in ("chosen", "rejected"))
        if other != question:
            raise BadRow("question_mismatch", f"chosen answers {question[:60]!r}, rejected answers {other[:60]!r}")
    question = without_marker(question)
    if not question:
        raise BadRow("no_instruction", "the question is empty")
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        if not text.strip():
            raise BadRow(f"empty_{side}", f"the {side} answer is empty")
    if chosen.split() == rejected.split():
        raise BadRow("duplicate", "chosen and rejected are the same text")
    return PairSaid(text_in(fields, ("id",)), question, chosen, rejected)


def first_of(fields: dict[str, Any], names: Iterable[str]) -> Any:
    """Return the first field that is there and not null."""
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def text_in(fields: dict[str, Any], names: Iterable[str]) -> str | None:
    """Return the first field that is there as text (an id may be a number), None for an empty one."""
    value = first_of(fields, names)
    if isinstance(value, (dict, list, bytes, bool)):
        raise BadRow("invalid_field", f"{'/'.join(names)} is a {type(value).__name__}, not text")
    return None if value is None else str(value) or None


def number_in(fields: dict[str, Any], name: str) -> float | None:
    """Return a finite number, None where there is none. Raises BadRow invalid_field."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadRow("invalid_field", f"{name} is {value!r}, not a number")
    return float(value)


def integer_in(fields: dict[str, Any], name: str) -> int | None:
    """Return an integer of at most 64 bits, None where there is none. Raises BadRow invalid_field."""
    value = fields.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
        raise BadRow("invalid_field", f"{name} is {value!r}, not an integer of 64 bits")
    return value


def typed(row: Row) -> Row:
    """Return a row of separated values, which are texts, with its settings read as JSON spells them."""
    fields: dict[str, Any] = {name: value for name, value in row.fields.items() if value != ""}
    for name in SETTING_FIELDS:
        with suppress(ValueError):  # what is no number is named where it is used
            fields |= {name: json.loads(str(fields[name]).lower())} if name in fields else {}
    return replace(row, fields=fields)


def _side(asked: Any, answer: Any) -> tuple[str, str]:
    """Return (question, answer) of one side, whose messages may or may not repeat the question."""
    answers = _turns(answer, "assistant")
    if asked is None or len(answers) > 1:
        return _exchange(answer)
    return _exchange([*_as_list(asked, "user"), *_as_list(answer, "assistant")])


def _exchange(value: Any) -> tuple[str, str]:
    turns = _turns(value, "user")
    roles = [role for role, _ in turns]
    if roles != ["user", "assistant"]:
        raise BadRow(
            "unsupported_conversation", f"one question and one answer expected, found {', '.join(roles) or 'nothing'}"
        )
    return turns[0][1], turns[1][1]


def _turns(value: Any, default_role: str) -> list[tuple[str, str]]:
    turns = []
    for message in _as_list(value, default_role):
        if not isinstance(message, dict):
            raise BadRow("unsupported_conversation", f"a message is a {type(message).__name__}")
        role = message.get("role", message.get("from"))
        content = message.get("content", message.get("value"))
        if isinstance(content, list):  # [{"type": "image"}, {"type": "text", "text": ...}]
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "".join(part for part in parts if isinstance(part, str))
        if not isinstance(content, str):
            raise BadRow("unsupported_conversation", f"a message's content is a {type(content).__name__}")
        turns.append((_ROLES.get(str(role), str(role)), content))
    return turns


def _as_list(value: Any, role: str) -> list[Any]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return value if isinstance(value, list) else [] if value is None else [value]
