"""JSON to rows, one value at a time, and the table that is a whole JSON list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..characters import BROKEN, is_encodable
from ..errors import PrefmillError
from .table import BOM, BadRow, Row, Table, not_text

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class JsonRows:
    """How JSON values become rows: objects as they are, texts as the column `text_column` where there is one."""

    text_column: str | None

    def parsed(self, place: str, number: int, line: bytes) -> Row:
        """Return the row that a line of JSON is, or why it is none."""
        try:
            text = line.removeprefix(BOM).decode("utf-8")
            value = {self.text_column: ""} if self.text_column and not text.strip() else json.loads(text)
        except UnicodeDecodeError as error:
            return Row(place, number, {}, not_text(error))
        except (ValueError, RecursionError) as error:
            return Row(place, number, {}, BadRow("invalid_json", str(error)))
        return self.row(place, number, value, may_hold_surrogates(line))

    def row(self, place: str, number: int, value: Any, suspicious: bool) -> Row:
        """Return the row that a JSON value is. `suspicious`: it is searched for halves of surrogate pairs."""
        if self.text_column and isinstance(value, str):
            value = {self.text_column: value}
        if not isinstance(value, dict):
            wanted = "text or an object" if self.text_column else "an object"
            return Row(
                place, number, {}, BadRow("not_an_object", f"a {type(value).__name__} where {wanted} was expected")
            )
        if suspicious and not is_encodable(json.dumps(value, ensure_ascii=False)):
            return Row(place, number, value, BadRow("invalid_text", BROKEN))
        return Row(place, number, value)


def may_hold_surrogates(data: bytes) -> bool:
    """Return whether JSON spells a surrogate; a look that costs little, since almost none does."""
    return bool(_SURROGATE.search(data))


class JsonTable(Table):
    """A whole-file JSON list."""

    kind = "json"

    def __init__(self, path: Path, name: str, text_column: str | None) -> None:
        super().__init__(path, name, text_column)
        data = path.read_bytes()
        try:
            items = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise PrefmillError(
                f"{name} is not valid JSON: {error}", "correct it, or name it .jsonl if every line is an object"
            ) from error
        if not isinstance(items, list):
            raise PrefmillError(f"{name} holds a {type(items).__name__}, not a list", "give a list of objects")
        self.items, self.suspicious = items, may_hold_surrogates(data)

    def __len__(self) -> int:
        return len(self.items)

    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        convert = JsonRows(self.text_column).row
        for number in range(start, len(self.items)):
            yield convert(f"{self.name}:{number + 1}", number, self.items[number], self.suspicious)
