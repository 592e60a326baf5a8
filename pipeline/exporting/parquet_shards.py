"""Parquet files that `datasets` loads as they are: one, or a folder of shards by split, with its features inside."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from .writer import Target

if TYPE_CHECKING:
    from datasets import Features

GROUP_BYTES = 32 << 20  # a row group of images: what a reader holds at a time
GROUP_ROWS = 10_000


class ParquetShards:
    """Rows as Parquet: the target itself, or SPLIT-00000.parquet and so on in a folder.

    `plain` are the columns of encoded images, by their paths in Parquet: compressing them again only costs time.
    """

    def __init__(self, target: Target, schema: pa.Schema, plain: Collection[str], folder: Path | None = None) -> None:
        self.target, self.schema = target, schema
        self.folder = folder or target.path
        columns = _leaves(schema)
        self.options: dict[str, Any] = {
            "compression": {name: "none" if name in plain else "zstd" for name in columns},
            "use_dictionary": [name for name in columns if name not in plain],
            "write_statistics": [name for name in columns if name == "id"],
        }
        self.shards: dict[str, _Shard] = {}

    def add(self, split: str, row: dict[str, Any], size: int) -> None:
        """Write a row whose images have `size` bytes together."""
        shard = self.shards.setdefault("" if self.target.single else split, _Shard())
        shard.rows.append(row)
        shard.waiting += size
        if shard.waiting >= min(GROUP_BYTES, self.target.shard_bytes) or len(shard.rows) >= GROUP_ROWS:
            self._write_group(split, shard)

    def _write_group(self, split: str, shard: _Shard) -> None:
        if not shard.rows:
            return
        if shard.file is None:
            path = self.folder if self.target.single else self.folder / f"{split}-{shard.number:05d}.parquet"
            shard.file, shard.number, shard.written = (
                pq.ParquetWriter(path, self.schema, **self.options),
                shard.number + 1,
                0,
            )
        shard.file.write_table(pa.Table.from_pylist(shard.rows, schema=self.schema))
        shard.written += shard.waiting
        shard.rows, shard.waiting = [], 0
        if shard.written >= self.target.shard_bytes and not self.target.single:
            shard.file.close()
            shard.file = None

    def close(self) -> None:
        """Write what waits, and close the files."""
        for split, shard in self.shards.items():
            self._write_group(split, shard)
            if shard.file is not None:
                shard.file.close()


class _Shard:
    """The file of a split that is being written, and the rows that wait for it."""

    def __init__(self) -> None:
        self.file: pq.ParquetWriter | None = None
        self.number, self.written, self.waiting = 0, 0, 0
        self.rows: list[dict[str, Any]] = []


def features(columns: dict[str, Any]) -> Features:
    """Return columns as features of `datasets`; a type is a name such as `string`, or a feature itself."""
    from datasets import Features, Value

    return Features({name: Value(kind) if isinstance(kind, str) else kind for name, kind in columns.items()})


def _leaves(schema: pa.Schema) -> list[str]:
    """The columns that Parquet stores for a schema, by their paths."""
    empty = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), empty)
    stored = pq.ParquetFile(pa.BufferReader(empty.getvalue())).schema
    return [stored.column(number).path for number in range(len(stored))]
