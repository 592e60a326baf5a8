"""Whose tables are made, from which files, and where they go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ....base.errors import PrefmillError
from ....engine.responders.settings import ModelChoice
from ....engine.settings import EngineSettings
from ..answering.writing import adapter_in
from .published import BASE, TABLES, PaperTable

SHORT_ANSWER = "Answer the question using a single word or phrase."
"""What LLaVA's own POPE questions end in."""


@dataclass(frozen=True)
class PaperRow:
    """A row: the base model, or with a training's adapter."""

    name: str
    training: Path | None = None

    @property
    def adapter(self) -> Path | None:
        """The adapter's folder."""
        return None if self.training is None else adapter_in(self.training)


@dataclass(frozen=True)
class PaperSettings:
    """Everything that the tables depend on. `data` is laid out as `needs.py` says."""

    model: ModelChoice
    rows: tuple[PaperRow, ...]
    data: Path
    to: Path
    tables: tuple[PaperTable, ...] = TABLES
    judge: ModelChoice | None = None
    extractor: ModelChoice | None = None
    engine: EngineSettings = EngineSettings()  # noqa: RUF009  # frozen
    light: bool = False
    suffix: str = SHORT_ANSWER
    lmms_kind: str = "llava_hf"

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks of all tables, each once."""
        return tuple(dict.fromkeys(name for table in self.tables for name in table.benchmarks))


def rows_of(adapters: list[str]) -> tuple[PaperRow, ...]:
    """Return the base's row and those of NAME=FOLDER. Raises PrefmillError for another form and a name twice."""
    rows = [PaperRow(BASE)]
    for one in adapters:
        name, equals, folder = one.partition("=")
        if not (name and equals and folder) or "/" in name:
            raise PrefmillError(f"--adapter {one!r} is not NAME=FOLDER.", "write --adapter 9K=adapters/paper")
        if name in {row.name for row in rows}:
            raise PrefmillError(f"--adapter names the row {name!r} twice.", "give each row a name of its own")
        rows.append(PaperRow(name, Path(folder).expanduser()))
    return tuple(rows)


def tables_of(numbers: str) -> tuple[PaperTable, ...]:
    """Return the tables with these numbers, such as `2,3`. Raises PrefmillError for others."""
    wanted = [one.strip() for one in numbers.split(",")]
    known = {str(table.number): table for table in TABLES}
    if unknown := [one for one in wanted if one not in known]:
        raise PrefmillError(f"there is no table {unknown[0]!r}.", f"choose from {', '.join(known)}")
    return tuple(known[one] for one in dict.fromkeys(wanted))
