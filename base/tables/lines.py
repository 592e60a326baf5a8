"""Tables whose rows are lines: plain text, and JSON lines.

Lines are bytes, split at \\n alone: text functions would also cut at form feeds and at Unicode's separators.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from .json_rows import JsonRows
from .table import BOM, Row, Table, not_text


class LineTable(Table):
    """Rows by the offsets of their lines, eight bytes a row."""

    def __init__(self, path: Path, name: str, text_column: str | None) -> None:
        super().__init__(path, name, text_column)
        self.offsets, self.lines = array("Q"), array("Q")
        position = 0
        with path.open("rb") as file:
            for line, content in enumerate(file, start=1):
                if self._is_row(content):
                    self.offsets.append(position)
                    self.lines.append(line)
                position += len(content)

    def __len__(self) -> int:
        return len(self.offsets)

    def _is_row(self, line: bytes) -> bool:
        return True

    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for number in islice(range(len(self)), start, None):
                file.seek(self.offsets[number])
                line = file.readline()
                yield self._row(f"{self.name}:{self.lines[number]}", number, line)

    def _row(self, place: str, number: int, line: bytes) -> Row:
        raise NotImplementedError


class TextTable(LineTable):
    """One text a line, kept to the byte but for the line's end; blank lines are rows of blank text."""

    kind = "txt"

    def _row(self, place: str, number: int, line: bytes) -> Row:
        content = (line.removeprefix(BOM) if number == 0 else line).removesuffix(b"\n").removesuffix(b"\r")
        try:
            return Row(place, number, {self.text_column or "text": content.decode("utf-8")})
        except UnicodeDecodeError as error:
            return Row(place, number, {}, not_text(error))


class JsonLinesTable(LineTable):
    """JSON lines. Blank lines are no rows, or rows of blank text where plain text may be a row."""

    kind = "jsonl"

    def _is_row(self, line: bytes) -> bool:
        return self.text_column is not None or bool(line.strip(b" \t\r\n\xef\xbb\xbf"))

    def _row(self, place: str, number: int, line: bytes) -> Row:
        return JsonRows(self.text_column).parsed(place, number, line)
