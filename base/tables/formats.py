"""The kinds of tables that can be read: JSON lists, JSON lines, Parquet, and folders saved by `datasets`.

Which one a file is, is decided by its content where its name leaves room; what is none of them is named in the error.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..errors import PrefmillError
from .table import BadRow, Row, Table, binary_kind, readable

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonTable(Table):
    """A whole-file JSON list."""

    kind = "json"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        data = path.read_bytes()
        try:
            items = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise PrefmillError(
                f"{path} is not valid JSON: {error}", "correct it, or name it .jsonl if every line is an object"
            ) from error
        if not isinstance(items, list):
            raise PrefmillError(f"{path} holds a {type(items).__name__}, not a list", "give a list of objects")
        self.items, self.suspicious = items, bool(_SURROGATE.search(data))

    def __len__(self) -> int:
        return len(self.items)

    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        for number in range(start, len(self.items)):
            yield _row(f"{self.path.name}:{number + 1}", number, self.items[number], self.suspicious)


class JsonLinesTable(Table):
    """JSON lines; blank lines are no rows."""

    kind = "jsonl"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.offsets, self.lines = array("Q"), array("Q")
        position = 0
        with path.open("rb") as file:
            for line, content in enumerate(file, start=1):
                if content.strip(b" \t\r\n\xef\xbb\xbf"):
                    self.offsets.append(position)
                    self.lines.append(line)
                position += len(content)

    def __len__(self) -> int:
        return len(self.offsets)

    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for number in range(start, len(self)):
                file.seek(self.offsets[number])
                yield self._parsed(f"{self.path.name}:{self.lines[number]}", number, file.readline())

    def _parsed(self, place: str, number: int, line: bytes) -> Row:
        try:
            return _row(place, number, json.loads(line.removeprefix(b"\xef\xbb\xbf")), bool(_SURROGATE.search(line)))
        except UnicodeDecodeError as error:
            return Row(place, number, {}, BadRow("binary", f"not UTF-8 text: {error.reason} at byte {error.start}"))
        except (ValueError, RecursionError) as error:
            return Row(place, number, {}, BadRow("invalid_json", str(error)))


class ParquetTable(Table):
    """One Parquet file, or a folder of them in the order of their names."""

    kind = "parquet"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        paths = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        with readable(path):
            # a buffer instead of whole column chunks: other people's row groups can hold a thousand images
            self.files = [(file.name, pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)) for file in paths]
        self.size = sum(file.metadata.num_rows for _, file in self.files)
        schema = self.files[0][1].schema
        leaves = [schema.column(index) for index in range(len(schema))]
        self.narrow = [leaf.path for leaf in leaves if not _is_bytes(leaf)]
        self.embeds = len(self.narrow) < len(leaves)

    def __len__(self) -> int:
        return self.size

    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        first = 0
        for name, file in self.files:
            line = 1
            for group in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if first + size > start:
                    rows = self._group(file, group, embedded)
                    for offset, fields in islice(enumerate(rows), max(0, start - first), None):
                        yield Row(f"{name}:{line + offset}", first + offset, fields)
                first, line = first + size, line + size

    def _group(self, file: pq.ParquetFile, group: int, embedded: bool) -> Iterator[dict[str, Any]]:
        batch_rows, columns = (16, None) if embedded else (1024, self.narrow)
        with readable(self.path):
            for batch in file.iter_batches(batch_rows, row_groups=[group], columns=columns):
                yield from batch.to_pylist()


class SavedTable(Table):
    """A folder written by `datasets` (`save_to_disk`)."""

    kind = "datasets"
    embeds = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import datasets

        with readable(path):
            loaded = datasets.load_from_disk(str(path))
        if isinstance(loaded, datasets.DatasetDict):
            if "train" not in loaded and len(loaded) != 1:
                raise PrefmillError(
                    f"{path} holds the splits {', '.join(map(str, loaded))}", "name the folder of one of them"
                )
            loaded = loaded["train"] if "train" in loaded else next(iter(loaded.values()))
        self.data = loaded.with_format("arrow")  # arrow: images stay bytes

    def __len__(self) -> int:
        return len(self.data)

    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        for first in range(start, len(self), 16):
            table: Any = self.data[first : first + 16]
            for number, fields in enumerate(table.to_pylist(), start=first):
                yield Row(f"{self.path.name}:{number + 1}", number, fields)


def open_table(path: Path, option: str) -> Table:
    """Open a table by what is in it. Raises PrefmillError naming what was found where that is no table."""
    if not path.exists():
        raise PrefmillError(f"{path} does not exist", f"correct the path given with {option}")
    with readable(path):
        table = _table_class(path, option)(path)
    if not len(table):
        raise PrefmillError(f"{path} holds no rows", f"give a file with rows to {option}")
    return table


def is_table_folder(path: Path) -> bool:
    """Return whether a folder is one table: saved by `datasets`, or made of Parquet files."""
    saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
    return path.is_dir() and (saved or any(path.rglob("*.parquet")))


def _table_class(path: Path, option: str) -> type[Table]:
    known = "a .json list, .jsonl, .parquet, or a folder saved by `datasets`"
    if path.is_dir():
        if not is_table_folder(path):
            raise PrefmillError(f"{path} is a folder without a data set in it", f"give {option} {known}")
        return ParquetTable if any(path.rglob("*.parquet")) else SavedTable
    if not path.is_file():
        raise PrefmillError(f"{path} is not a regular file", f"give {option} {known}")
    with path.open("rb") as file:
        head = file.read(4096).removeprefix(b"\xef\xbb\xbf")
    start = head.lstrip()[:1]
    if head.startswith(b"PAR1"):
        return ParquetTable
    if found := binary_kind(path):
        raise PrefmillError(f"{path} is {found}, not a table", f"give {option} {known}")
    if path.suffix in {".jsonl", ".ndjson"} or (path.suffix != ".json" and start == b"{"):
        return JsonLinesTable
    if path.suffix == ".json" or start == b"[":
        return JsonTable
    raise PrefmillError(
        f"{path} begins with {head[:20]!r}, which is neither JSON nor Parquet", f"give {option} {known}"
    )


def _is_bytes(leaf: Any) -> bool:
    return leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"


def _row(place: str, number: int, value: Any, suspicious: bool) -> Row:
    if not isinstance(value, dict):
        found = f"a {type(value).__name__} where an object was expected"
        return Row(place, number, {}, BadRow("not_an_object", found))
    if suspicious:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Row(
                place, number, {}, BadRow("invalid_text", "holds half of a surrogate pair, which is no character")
            )
    return Row(place, number, value)
