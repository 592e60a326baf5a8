"""Tables in Arrow's columns: Parquet files, and data sets of the `datasets` library (saved folders, the hub).

Arrow's own rows are read, not the decoded ones of `datasets`: images stay the bytes that they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..errors import PrefmillError
from .table import Row, Table, readable


class ParquetTable(Table):
    """One Parquet file, or a folder of them in the order of their names."""

    kind = "parquet"

    def __init__(self, path: Path, name: str, text_column: str | None) -> None:
        super().__init__(path, name, text_column)
        paths = parquet_files(path) if path.is_dir() else [path]
        with readable(path):
            # a buffer instead of whole column chunks: other people's row groups can hold a thousand images
            self.files = [
                (file.relative_to(path).as_posix() if path.is_dir() else name, _opened(file)) for file in paths
            ]
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
        with readable(self.path):  # a damaged page shows only when it is read
            for batch in file.iter_batches(batch_rows, row_groups=[group], columns=columns):
                yield from batch.to_pylist()


class DatasetsTable(Table):
    """A data set of the `datasets` library."""

    kind = "datasets"
    embeds = True

    def __init__(self, path: Path, name: str, data: Any) -> None:
        super().__init__(path, name)
        self.data = data.with_format("arrow")

    def __len__(self) -> int:
        return len(self.data)

    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        for first in range(start, len(self), 16):
            with readable(self.path):
                rows = self.data[first : first + 16].to_pylist()
            for number, fields in enumerate(rows, start=first):
                yield Row(f"{self.name}:{number + 1}", number, fields)


def open_saved(path: Path, option: str, split: str | None) -> DatasetsTable:
    """Open a folder written by `datasets` (`save_to_disk`). `split`: None takes train, or the only one.

    Raises PrefmillError for a damaged folder, and for splits among which there is no such.
    """
    import datasets

    loaded: Any = _foreign(path, lambda: datasets.load_from_disk(str(path)))
    if isinstance(loaded, datasets.DatasetDict):
        chosen = split or ("train" if "train" in loaded else next(iter(loaded), "") if len(loaded) == 1 else "train")
        if chosen not in loaded:
            held = ", ".join(map(str, loaded)) or "none"
            raise PrefmillError(
                f"{path} has no split {chosen}; its splits: {held}", f"give {option} the folder of one of them"
            )
        loaded = loaded[chosen]
    return DatasetsTable(path, path.name, loaded)


def open_hub(name: str, split: str) -> DatasetsTable:
    """Open a data set of the hub by `owner/name`. Raises PrefmillError for whatever keeps it from being read."""
    import datasets

    place = f"hub:{name}"
    return DatasetsTable(Path(place), place, _foreign(place, lambda: datasets.load_dataset(name, split=split)))


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files below a folder, in the order of their names."""
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file())


def _foreign(place: Path | str, load: Any) -> Any:
    try:
        return load()
    except Exception as error:  # the library's errors for damaged and missing folders are of many types
        first_line = (str(error).splitlines() or ["?"])[0]
        raise PrefmillError(
            f"cannot read {place}: {type(error).__name__}: {first_line}", "check that it is whole and of that type"
        ) from error


def _opened(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)


def _is_bytes(leaf: Any) -> bool:
    return leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
