"""Reading prompts: text, JSON, JSON lines, Parquet, or a `datasets` data set, row by row and unharmed.

A row that cannot be used becomes a reject with the name of its place; the rows around it go on. A prompt's text is
kept to the byte (trailing spaces too): models were trained on such text, and its id is its hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ..base.errors import PrefmillError
from ..base.settings import Settings
from ..base.tables.table import binary_kind, readable
from .records import Prompt, Reject, content_id

STAGE = "prompts"
TEXT_FIELDS = ("text", "prompt", "caption")
NAME_FIELDS = ("id", "prompt_id", "key", "image")
TOPIC_FIELDS = ("topic", "category")
INSTRUCTION_FIELDS = ("instruction", "question")
FILES = ".txt, .json, .jsonl, .parquet, a `datasets` folder"


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
    if config.path is None:
        raise PrefmillError("no prompts were given", "name a file with --prompts FILE")
    items: list[Prompt | Reject] = []
    seen: dict[str, str] = {}
    for index, (place, row) in enumerate(_rows(config.path, config.split), start=1):
        if config.limit is not None and index > config.limit:
            break
        item = row if isinstance(row, Reject) else prompt_from(row, index, place, config.max_characters)
        if isinstance(item, Prompt):
            name = f"id {item.source}" if item.source != place else f"text {item.id}"
            if name in seen:
                item = Reject(place, STAGE, "duplicate", f"{name} was read before, at {seen[name]}")
            else:
                seen[name] = place
        items.append(item)
    if not items:
        raise PrefmillError(f"{config.path} holds no prompts", "give a file with one prompt per line")
    return items


def prompt_from(row: Any, index: int, place: str, max_characters: int) -> Prompt | Reject:
    """Return a row (a string, or a mapping with a text field) as a prompt, or why it cannot be one."""
    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, dict):
        return Reject(place, STAGE, "not_a_prompt", f"a {type(row).__name__} where text or an object was expected")
    text = _first(row, TEXT_FIELDS)
    reason = reason_against(text, max_characters)
    if reason:
        return Reject(place, STAGE, *reason)
    assert isinstance(text, str)
    topic, asked = _text(_first(row, TOPIC_FIELDS)), _first(row, INSTRUCTION_FIELDS)
    given = asked if isinstance(asked, list | tuple) else [asked]
    instructions = tuple(dict.fromkeys(str(one) for one in given if one is not None and str(one).strip()))
    name = _first(row, NAME_FIELDS)
    source = place if name is None else str(name)
    if _not_text(text, source, topic, *instructions):
        return Reject(place, STAGE, "invalid_text", "holds half of a surrogate pair, which is no character")
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


def _not_text(*values: str | None) -> bool:
    """Return whether a value holds half of a surrogate pair: JSON can spell it, but it is no character."""
    return any("\ud800" <= character <= "\udfff" for value in values if value for character in value)


def _first(row: dict[str, Any], fields: tuple[str, ...]) -> Any:
    return next((row[field] for field in fields if row.get(field) is not None), None)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _rows(path: str, split: str) -> Iterator[tuple[str, Any]]:
    """Yield (place, row) for every row of the input; rows that cannot be decoded come as rejects."""
    if path.startswith("hub:"):
        import datasets

        yield from _named(path, _reading(path, lambda: datasets.load_dataset(path.removeprefix("hub:"), split=split)))
        return
    file = Path(path).expanduser()
    if not file.exists():
        raise PrefmillError(f"prompt file {path} does not exist", "correct the path given with --prompts")
    if file.is_dir():
        yield from _named(path, _reading(path, lambda: _saved_dataset(file, split)))
    elif kind := binary_kind(file):
        raise PrefmillError(f"{path} is {kind}, not a file of prompts", f"give {FILES}, text as UTF-8")
    elif file.suffix.lower() in {".csv", ".tsv"}:
        raise PrefmillError(f"{path}: separated values are not read", "convert it to JSON lines (.jsonl) or Parquet")
    elif file.suffix.lower() == ".parquet":
        yield from _named(file.name, _reading(path, lambda: pq.ParquetFile(file)))
    elif file.suffix.lower() == ".json":
        yield from _json_rows(file)
    elif file.suffix.lower() in {".jsonl", ".ndjson"}:
        yield from ((place, _parsed(place, line)) for place, line in _lines(file))
    else:
        yield from ((place, _decoded(place, line)) for place, line in _lines(file))


def _reading(path: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        first_line = (str(error).splitlines() or ["?"])[0]
        raise PrefmillError(
            f"cannot read {path}: {first_line}", "check that the file is whole and of that type"
        ) from error


def _saved_dataset(folder: Path, split: str) -> Any:
    import datasets

    loaded = datasets.load_from_disk(str(folder))
    return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded


def _named(name: str, table: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(table, pq.ParquetFile):
        rows: Iterator[Any] = (row for batch in table.iter_batches() for row in batch.to_pylist())
    else:
        rows = iter(table)
    with readable(Path(name)):  # a damaged page shows only when it is read
        yield from ((f"{name}:{number}", row) for number, row in enumerate(rows, start=1))


def _json_rows(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise PrefmillError(f"{file} is not valid JSON: {error}", "correct it, or give JSON lines (.jsonl)") from error
    if not isinstance(rows, list):
        raise PrefmillError(f"{file} holds a {type(rows).__name__}, not a list", "give a list of prompts")
    yield from ((f"{file.name}:{number}", row) for number, row in enumerate(rows, start=1))


def _lines(file: Path) -> Iterator[tuple[str, bytes]]:
    # bytes, split at \n alone: str.splitlines would cut prompts at form feeds and unicode separators
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1 and line.startswith(b"\xef\xbb\xbf"):
                line = line[3:]  # noqa: PLW2901 - the byte order mark is not part of the first prompt
            yield f"{file.name}:{number}", line.rstrip(b"\n").removesuffix(b"\r")


def _decoded(place: str, line: bytes) -> str | Reject:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        return Reject(place, STAGE, "binary", f"not UTF-8 text: {error.reason} at byte {error.start}")


def _parsed(place: str, line: bytes) -> Any:
    text = _decoded(place, line)
    if isinstance(text, Reject):
        return text
    try:
        return json.loads(text) if text.strip() else {"text": ""}
    except (ValueError, RecursionError) as error:
        return Reject(place, STAGE, "invalid_json", str(error))
