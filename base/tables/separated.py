"""Tables of separated values (.csv, .tsv), whose first row names the columns.

Values may be quoted and then hold line ends. A row with a fault in its quotes costs that line alone: reading goes on
at the next line, not at the next quote, which may be the end of the file away.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import PrefmillError
from .table import BOM, BadRow, Row, Table, not_text


class SeparatedTable(Table):
    """Rows of texts; what is not written is not there. Blank lines are no rows.

    The separator is a tab in .tsv, else whichever of comma, semicolon and tab the first line has most of.
    """

    kind = "csv"
    untyped = True

    def __init__(self, path: Path, name: str, text_column: str | None) -> None:
        super().__init__(path, name, text_column)
        with path.open("rb") as file:
            head = file.readline(1 << 16)
        tabs = Path(name).suffix.lower() == ".tsv"
        self.separator = "\t" if tabs else max(",;\t", key=lambda separator: head.count(separator.encode()))
        self.offsets, self.lines = array("Q"), array("Q")
        columns: list[str] | BadRow | None = None
        for offset, line, cells in self._records(0, 1):
            if columns is None:
                columns = cells
            else:
                self.offsets.append(offset)
                self.lines.append(line)
        if columns is None or isinstance(columns, BadRow):
            why = columns.detail if columns else "it is empty"
            raise PrefmillError(f"{name} has no first row that names its columns: {why}", "write one: id,text")
        twice = sorted({column for column in columns if column and columns.count(column) > 1})
        if twice:
            raise PrefmillError(f"{name} has several columns called {', '.join(twice)}", "rename or drop all but one")
        self.columns = columns

    def __len__(self) -> int:
        return len(self.offsets)

    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        if start >= len(self):
            return
        records = self._records(self.offsets[start], self.lines[start])
        for number, (_, line, cells) in enumerate(records, start):
            place = f"{self.name}:{line}"
            if isinstance(cells, BadRow):
                yield Row(place, number, {}, cells)
            elif any(cells[len(self.columns) :]):
                found = f"{len(cells)} values in {len(self.columns)} columns"
                yield Row(place, number, {}, BadRow("invalid_csv", found))
            else:
                fields = zip(self.columns, cells, strict=False)  # what a row's end lacks is not there
                yield Row(place, number, {column: cell for column, cell in fields if column})

    def _records(self, offset: int, line: int) -> Iterator[tuple[int, int, list[str] | BadRow]]:
        """Yield (offset, line, cells or what is wrong) of each record from a line on, blank lines left out."""
        with self.path.open("rb") as file:
            file.seek(offset)
            while first := file.readline():
                following = offset + len(first)
                cells, taken = self._record(file, first.removeprefix(BOM) if offset == 0 else first)
                if isinstance(cells, BadRow):
                    file.seek(following)
                    taken = 1
                if cells:
                    yield offset, line, cells
                offset, line = file.tell(), line + taken

    def _record(self, file: IO[bytes], first: bytes) -> tuple[list[str] | BadRow, int]:
        """Return the cells of the record that begins with a line, and how many lines it has."""
        lines = [first]

        def texts() -> Iterator[str]:
            yield first.decode("utf-8")
            while following := file.readline():
                lines.append(following)
                yield following.decode("utf-8")

        try:
            return next(csv.reader(texts(), delimiter=self.separator, strict=True)), len(lines)
        except UnicodeDecodeError as error:
            return not_text(error), len(lines)
        except csv.Error as error:
            return BadRow("invalid_csv", str(error)), len(lines)
