"""Open a table, whatever kind it is: text, separated values, JSON, JSON lines, Parquet, or a `datasets` folder.

Which one a file is, is decided by its content where its name leaves room; what is none of them is named in the error.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import PrefmillError
from ..paths import user_path
from .arrow import ParquetTable, open_saved, parquet_files
from .json_rows import JsonTable
from .lines import JsonLinesTable, TextTable
from .pipes import spooled
from .separated import SeparatedTable
from .table import BOM, Table, binary_kind, readable

_BY_SUFFIX: dict[str, type[Table]] = {
    ".csv": SeparatedTable,
    ".tsv": SeparatedTable,
    ".json": JsonTable,
    ".jsonl": JsonLinesTable,
    ".ndjson": JsonLinesTable,
    ".parquet": ParquetTable,
}
TABLE_SUFFIXES = frozenset(_BY_SUFFIX)


def open_table(
    path: str | Path, option: str, *, text_column: str | None = None, split: str | None = None, rows: str = "rows"
) -> Table:
    """Open a table by what is in it. `option` is what gave the path, and `rows` what its rows are called, in errors.

    `text_column`: plain text may be a row (a line of text, a JSON string) and goes to this column; without it only
    objects are rows. `split`: of a `datasets` folder that has several. A pipe is read once, whole.
    Raises PrefmillError naming what was found where that is no table, and for a table without rows.
    """
    path = user_path(path, option)
    if not path.exists():
        raise PrefmillError(f"{path} does not exist", f"correct the path given with {option}")
    with readable(path):
        table = _opened(path, option, text_column, split)
    if not len(table):
        raise PrefmillError(f"{path} holds no {rows}", f"give {option} a file with {rows}")
    return table


def is_table_folder(path: Path) -> bool:
    """Return whether a folder is one table: saved by `datasets`, or made of Parquet files."""
    return path.is_dir() and (_is_saved(path) or bool(parquet_files(path)))


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _opened(path: Path, option: str, text_column: str | None, split: str | None) -> Table:
    known = f"{'text, ' if text_column else ''}.csv, a .json list, .jsonl, .parquet, or a folder saved by `datasets`"
    if not path.is_dir():
        file = spooled(path, option)
        name = path.name if file == path else "pipe"  # a pipe's own is a number that changes
        table = _table_class(path, file, text_column is not None, f"give {option} {known}")(file, name, text_column)
        table.folder = path.parent
        return table
    if _is_saved(path):
        return open_saved(path, option, split)
    if parquet_files(path):
        return ParquetTable(path, path.name, text_column)
    raise PrefmillError(f"{path} is a folder without a data set in it", f"give {option} {known}")


def _table_class(path: Path, file: Path, text: bool, fix: str) -> type[Table]:
    with file.open("rb") as stream:
        head = stream.read(4096).removeprefix(BOM)
    if head.startswith(b"PAR1"):
        return ParquetTable
    if found := binary_kind(file):
        raise PrefmillError(f"{path} is {found}, not a table", fix)
    if named := _BY_SUFFIX.get(path.suffix.lower()):
        return named
    start = head.lstrip()[:1]
    if text:
        return TextTable
    if start in (b"{", b"["):
        return JsonLinesTable if start == b"{" else JsonTable
    raise PrefmillError(f"{path} begins with {head[:20]!r}, which is neither JSON nor Parquet", fix)
