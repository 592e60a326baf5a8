"""Reading prompts out of any table, row by row and unharmed.

A row that cannot be used becomes a reject with the name of its place; the rows around it go on. A prompt's text is
kept to the byte (trailing spaces too): models were trained on such text, and its id is its hash.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from pydantic import Field

from ..base.characters import BROKEN, is_encodable
from ..base.errors import PrefmillError
from ..base.settings import Settings
from ..base.tables.arrow import open_hub
from ..base.tables.formats import open_table
from ..base.tables.table import Row, Table
from .records import Prompt, Reject, content_id

STAGE = "prompts"
TEXT_FIELDS = ("text", "prompt", "caption")
NAME_FIELDS = ("id", "prompt_id", "key", "image")
TOPIC_FIELDS = ("topic", "category")
INSTRUCTION_FIELDS = ("instruction", "question")
FILES = ".txt, .csv, .json, .jsonl, .parquet, a `datasets` folder"
HUB = "hub:"


class PromptsConfig(Settings):
    """Where prompts come from and which are accepted."""

    path: str | None = Field(default=None, description=f"{FILES}, or hub:owner/name")
    split: str = Field(default="train", description="of a `datasets` data set")
    limit: int | None = Field(default=None, ge=1, description="read the first so many rows only")
    max_characters: int = Field(default=10_000, ge=1, description="longer prompts are rejected")


def read_prompts(config: PromptsConfig) -> list[Prompt | Reject]:
    """Return every row of the input as a prompt or a reject, in order. Rejects carry `file:row` as their subject.

    Raises PrefmillError when the input as a whole cannot be read.
    """
    table = open_prompts(config)
    items: list[Prompt | Reject] = []
    seen: dict[str, str] = {}
    for index, row in enumerate(islice(table.scan(), config.limit), start=1):
        item = _item(row, index, table.untyped, config.max_characters)
        if isinstance(item, Prompt):
            name = f"id {item.source}" if item.source != row.place else f"text {item.id}"
            if name in seen:
                item = Reject(row.place, STAGE, "duplicate", f"{name} was read before, at {seen[name]}")
            else:
                seen[name] = row.place
        items.append(item)
    return items


def open_prompts(config: PromptsConfig) -> Table:
    """Return the table that prompts come from. Raises PrefmillError when it cannot be read as a whole."""
    if config.path is None:
        raise PrefmillError("no prompts were given", "name a file with --prompts FILE")
    if config.path.startswith(HUB):
        return open_hub(config.path.removeprefix(HUB), config.split)
    return open_table(config.path, "--prompts", text_column=TEXT_FIELDS[0], split=config.split, rows="prompts")


def _item(row: Row, index: int, untyped: bool, max_characters: int) -> Prompt | Reject:
    if row.fault and row.fault.reason != "invalid_text":  # that may be in a field that is not read here
        reason = "not_a_prompt" if row.fault.reason == "not_an_object" else row.fault.reason
        return Reject(row.place, STAGE, reason, row.fault.detail)
    # where an empty cell is the only way to leave a value out, it is left out
    fields = {name: value for name, value in row.fields.items() if value != ""} if untyped else row.fields
    return prompt_from(fields, index, row.place, max_characters)


def prompt_from(row: dict[str, Any], index: int, place: str, max_characters: int) -> Prompt | Reject:
    """Return a row with a text field as a prompt, or why it cannot be one."""
    text = _first(row, TEXT_FIELDS)
    reason = reason_against(text, max_characters)
    if reason:
        return Reject(place, STAGE, *reason)
    assert isinstance(text, str)
    topic, asked = _text(_first(row, TOPIC_FIELDS)), _first(row, INSTRUCTION_FIELDS)
    given = asked if isinstance(asked, list | tuple) else [asked]
    instructions = tuple(dict.fromkeys(str(one) for one in given if one is not None and str(one).strip()))
    name = _name(row)
    source = place if name is None else name
    if not all(map(is_encodable, (text, source, topic or "", *instructions))):
        return Reject(place, STAGE, "invalid_text", BROKEN)
    identity = content_id("prompt", text, topic, *instructions, None if name is None else source)
    return Prompt(identity, index, text, source, topic, instructions)


def reason_against(text: Any, max_characters: int) -> tuple[str, str] | None:
    """Return (reason, detail) when a value cannot serve as a prompt's text, else None."""
    if text is None:
        return "no_text", f"none of the fields {', '.join(TEXT_FIELDS)}"
    if not isinstance(text, str):
        return "not_a_prompt", f"the text is a {type(text).__name__}"
    if not text.strip():
        return "empty", ""
    if len(text) > max_characters:
        return "too_long", f"{len(text):,} characters, at most {max_characters:,}; begins {text[:60]!r}"
    if any(ord(character) < 32 and character not in "\t\n\v\f\r" for character in text):
        return "binary", f"holds control characters; begins {text[:60]!r}"
    return None


def _first(row: dict[str, Any], fields: tuple[str, ...]) -> Any:
    return next((row[field] for field in fields if row.get(field) is not None), None)


def _name(row: dict[str, Any]) -> str | None:
    """The row's own name; an embedded image goes by its path, and its bytes are no name."""
    named = (value.get("path") if isinstance(value, dict) else value for value in map(row.get, NAME_FIELDS))
    return next((str(value) for value in named if value is not None and not isinstance(value, bytes)), None)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
