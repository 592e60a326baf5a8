"""One folder of a run as the viewer reads it: its shards a portion at a time, and rows by their numbers.

Unlike `Dataset` it does not read every footer before the first row, takes up shards that were committed meanwhile, and
goes on beside a damaged one, which it names. Rows are numbered in the order in which they were read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...base.errors import PrefmillError
from ..records import Reject
from ..shards import Footer, Shard, damaged, guarded
from ..store import Run
from .keys import UNKNOWN
from .layout import TableKind

_FOOTERS, _GROUPS = 16, 32  # kept by the reader: a group of light rows has a megabyte


@dataclass(frozen=True)
class TablePortion:
    """Some rows of a shard, with the columns that the index reads."""

    shard: int
    first: int
    """The number of its first row within the shard."""
    rows: pa.Table


class OwnedRows:
    """For every row read so far, the number of its owner and a few numbers more, and where it lies."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {"owner": []}
        self._firsts: list[int] = []  # of each portion, counted over all
        self._places: list[tuple[int, int]] = []  # shard, row within it
        self._order: np.ndarray | None = None
        self.count = 0

    def add(self, portion: TablePortion, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Add a portion; `columns` has `owner` int32 [N] among them. Returns the numbers of its rows [N]."""
        self._firsts.append(self.count)
        self._places.append((portion.shard, portion.first))
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(values)
        self._order = None
        first, self.count = self.count, self.count + portion.rows.num_rows
        return np.arange(first, self.count)

    def settle(self, rows: np.ndarray, owners: np.ndarray) -> None:
        """Give rows their owners, which were not known when they were added."""
        self.column("owner")[rows] = owners
        self._order = None

    def column(self, name: str) -> np.ndarray:
        """Return what is known of all rows [count]."""
        parts = self._parts.get(name, [])
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0] if parts else np.zeros(0, np.int32)

    def of(self, owner: int) -> np.ndarray:
        """Return the numbers of the rows that belong to an owner, in their order."""
        owners = self.column("owner")
        if self._order is None:
            self._order = np.argsort(owners, kind="stable").astype(np.int32)
            self._sorted = owners[self._order]
        first, last = np.searchsorted(self._sorted, [owner, owner + 1])
        return self._order[first:last]

    def place(self, row: int) -> tuple[int, int]:
        """Return the shard of a row, and its number within that."""
        portion = bisect_right(self._firsts, row) - 1
        shard, first = self._places[portion]
        return shard, first + int(row) - self._firsts[portion]

    def owners_within(self, shard: int, first: int, count: int) -> np.ndarray:
        """Return the owners of a range of a shard's rows [count]; `UNKNOWN` for those that were not read."""
        found = np.full(count, UNKNOWN, np.int32)
        owners, ends = self.column("owner"), [*self._firsts[1:], self.count]
        for (own, start), begin, end in zip(self._places, self._firsts, ends, strict=True):
            low, high = max(first, start), min(first + count, start + end - begin)
            if own == shard and low < high:
                found[low - first : high - first] = owners[begin + low - start : begin + high - start]
        return found


class StageTable:
    """The rows of one folder. One thread takes portions; any may read rows."""

    def __init__(self, run: Run, folder: str, kind: TableKind) -> None:
        self.run, self.folder, self.kind = run, folder, kind
        self.shards: list[Shard] = []
        self.rows = OwnedRows()
        self.problems: dict[str, str] = {}
        self._ends: dict[int, list[int]] = {}  # of a shard's row groups
        self._next = (0, 0)  # shard, row group

    def refresh(self) -> Literal["same", "more", "changed"]:
        """Look for shards that came or went. "changed": what was read is no longer what is there."""
        try:
            dataset = self.run.dataset(self.folder, self.kind.record)
        except PrefmillError as error:
            self.problems[self.folder] = error.message
            return "same"
        for shard in dataset.conflicts:
            self.problems[shard.path.name] = "claims inputs that another shard holds; it is left out"
        known = set(self.shards)
        fresh = [shard for shard in dataset.shards if shard not in known]
        if known - set(dataset.shards):
            return "changed"
        self.shards.extend(fresh)
        return "more" if fresh else "same"

    @property
    def is_read(self) -> bool:
        """Whether every shard known so far has been read."""
        return self._next[0] >= len(self.shards)

    @property
    def next_shard(self) -> int:
        """The number of the first shard that has not been read to its end."""
        return self._next[0]

    @property
    def progress(self) -> tuple[int, int]:
        """How many inputs of this stage have been read, of how many that were committed."""
        done = sum(shard.stop - shard.start for shard in self.shards[: self._next[0]])
        return done, sum(shard.stop - shard.start for shard in self.shards)

    def next_portion(self, most: int) -> TablePortion | None:
        """Read about `most` rows of the next shard; None where there are no more. A damaged shard is passed over."""
        while not self.is_read:
            number, group = self._next
            shard = self.shards[number]
            try:
                metadata = _metadata(shard, self.kind.record)
                ends = self._ends.get(number) or list(
                    accumulate(metadata.row_group(each).num_rows for each in range(metadata.num_row_groups))
                )
                self._ends[number] = ends
                first = ends[group - 1] if group else 0
                last = bisect_right(ends, first + most - 1, lo=group)  # the group that exceeds it is left for later
                last = min(max(last, group + 1), len(ends))
                table = _read(shard, metadata, range(group, last), self.kind.indexed)
                if table.num_rows != (ends[last - 1] if last else 0) - first:
                    raise damaged(shard)
            except PrefmillError as error:
                self.problems[shard.path.name] = error.message
                self._next = (number + 1, 0)
                continue
            self._next = (number, last) if last < len(ends) else (number + 1, 0)
            if table.num_rows:
                return TablePortion(number, first, table)
        return None

    def rejects_of(self, shard: int) -> tuple[Reject, ...]:
        """Return what went no further among a shard's inputs; nothing where its footer cannot be read."""
        try:
            return _footer(self.shards[shard], self.kind.record).rejects
        except PrefmillError as error:
            self.problems[self.shards[shard].path.name] = error.message
            return ()

    def read(self, rows: Iterable[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows as dictionaries of some columns, in the order asked for; damaged ones are left out, and named."""
        wanted = [int(row) for row in rows]
        by_group: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for place, row in enumerate(wanted):
            shard, inside = self.rows.place(row)
            ends = self._ends[shard]
            group = bisect_right(ends, inside)
            by_group[shard, group].append((place, inside - (ends[group - 1] if group else 0)))
        found: dict[int, dict[str, Any]] = {}
        for (shard, group), places in by_group.items():
            try:
                table = _group(self.shards[shard], self.kind.record, group, tuple(columns))
            except PrefmillError as error:
                self.problems[self.shards[shard].path.name] = error.message
                continue
            taken = table.take([inside for _, inside in places]).to_pylist()
            found |= dict(zip((place for place, _ in places), taken, strict=True))
        return [found[place] for place in sorted(found)]

    def groups(self) -> Iterable[tuple[int, int, int]]:
        """Yield shard, row group and its first row within the shard, of all that has been read."""
        for shard, ends in list(self._ends.items()):
            for group in range(len(ends)):
                if (shard, group) < self._next:
                    yield shard, group, ends[group - 1] if group else 0

    def column(self, shard: int, group: int, name: str) -> pa.ChunkedArray:
        """Return one column of a row group. Raises PrefmillError where it is damaged."""
        return _read(
            self.shards[shard], _metadata(self.shards[shard], self.kind.record), range(group, group + 1), [name]
        ).column(0)

    def read_large(self, row: int, column: str) -> memoryview:
        """Return the bytes in one column of one row, and keep nothing. Raises PrefmillError where it is damaged."""
        number, inside = self.rows.place(row)
        shard, ends = self.shards[number], self._ends[number]
        group = bisect_right(ends, inside)
        table = _read(shard, _metadata(shard, self.kind.record), range(group, group + 1), [column])
        value = table.column(0)[inside - (ends[group - 1] if group else 0)]
        return memoryview(value.as_buffer())  # a view, so that 100 MB are there once

    def stored_size(self, row: int, name: str) -> int:
        """Return the bytes that a column takes in the row group of a row: what has to be read to get at the row."""
        shard, inside = self.rows.place(row)
        metadata = _metadata(self.shards[shard], self.kind.record)
        group = metadata.row_group(bisect_right(self._ends[shard], inside))
        columns = (group.column(number) for number in range(group.num_columns))
        return next(column.total_uncompressed_size for column in columns if column.path_in_schema == name)


@lru_cache(maxsize=_FOOTERS)
def _metadata(shard: Shard, record: type) -> pq.FileMetaData:
    return shard.metadata(record)


@lru_cache(maxsize=_FOOTERS)
def _footer(shard: Shard, record: type) -> Footer:
    try:
        return Footer.decode(_metadata(shard, record).metadata[b"prefmill"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(shard) from error


def _read(shard: Shard, metadata: pq.FileMetaData, groups: range, columns: Sequence[str]) -> pa.Table:
    with guarded(shard), pq.ParquetFile(shard.path, metadata=metadata, page_checksum_verification=True) as file:
        return file.read_row_groups(list(groups), columns=list(columns), use_threads=False)


@lru_cache(maxsize=_GROUPS)
def _group(shard: Shard, record: type, group: int, columns: tuple[str, ...]) -> pa.Table:
    return _read(shard, _metadata(shard, record), range(group, group + 1), columns)
