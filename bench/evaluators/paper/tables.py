"""The tables as text: a row per model and, below it, what the paper printed for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .published import PUBLISHED_BASE, PaperColumn, PaperTable


@dataclass(frozen=True)
class FilledTable:
    """A table with a line per row: its label and a cell per column."""

    number: int
    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [("", self.columns), ("---", tuple("---:" for _ in self.columns)), *self.lines]
        text = "\n".join(f"| {' | '.join((label, *cells))} |" for label, cells in lines)
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"## Table {self.number}: {self.title}\n\n{text}\n{notes}\n"


def filled(table: PaperTable, rows: Mapping[str, Mapping[str, Any]], *, published: bool = True) -> FilledTable:
    """Return a table filled from the reports of its rows, by row and benchmark.

    `published`: with the numbers that were printed, which are of one base model.
    """
    numbers = table.printed if published else {}
    columns = tuple(one.title for one in table.columns)
    lines: list[tuple[str, tuple[str, ...]]] = []
    notes = list(table.notes)
    for name, reports in rows.items():
        lines.append((name, tuple(_cell(one, reports[one.benchmark]) for one in table.columns)))
        if printed := numbers.get(name):
            cells = (f"{printed[one.title]:.{one.digits}f}" if one.title in printed else "" for one in table.columns)
            lines.append((f"{name}, published", tuple(cells)))
        notes += [
            f"{name}: {benchmark}: {note}" for benchmark in table.benchmarks for note in reports[benchmark]["notes"]
        ]
    notes += [f"published for {name}, which no row here is" for name in numbers if name not in rows]
    notes += [] if published else [f"published numbers are of {PUBLISHED_BASE}, which the base here is not"]
    return FilledTable(table.number, table.title, columns, tuple(lines), tuple(dict.fromkeys(notes)))


def _cell(column: PaperColumn, report: Mapping[str, Any]) -> str:
    measures: Sequence[Mapping[str, Any]] = report["measures"]
    found = next(
        (one for one in measures if (one.get("group", ""), one["name"]) == (column.group, column.measure)), None
    )
    if found is None:
        return "-"
    value = found.get("official", found["value"])
    if value is None:
        return "undefined"
    ends = [found.get("low"), found.get("high")]
    digits = column.digits
    text = f"{column.factor * value:.{digits}f}"
    if None in ends:
        return text
    low, high = (column.factor * float(end or 0.0) for end in ends)
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"
