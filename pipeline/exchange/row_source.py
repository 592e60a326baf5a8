"""The rows of a table as a stage's input, keyed by their content and by the state of their image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...base.tables.table import BadRow, Row, Table
from ..records import content_id


class RowSource:
    """`said` returns what the output of a row of this kind depends on, and may raise BadRow."""

    def __init__(self, table: Table, kind: str, said: Callable[[Row], Sequence[str | None]]) -> None:
        self.table, self.kind, self.said = table, kind, said
        self.identities = [self._key(row) for row in table.scan()]

    def _key(self, row: Row) -> str:
        try:
            if row.fault:
                raise row.fault
            return content_id(f"{self.kind} row", row.place, *self.said(row))
        except BadRow as fault:
            return content_id(f"{self.kind} row", row.place, fault.reason, fault.detail)

    def __len__(self) -> int:
        return len(self.identities)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return what the rows' outputs depend on."""
        return self.identities[start:stop]

    def read(self, start: int, stop: int) -> Sequence[Row]:
        """Return the rows of a range, with embedded images."""
        return self.table.rows(start, stop)
