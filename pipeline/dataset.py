"""The rows of one stage, read from its shards. Reading streams: one row group (a megabyte) at a time."""

from __future__ import annotations

import contextlib
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..base.errors import PrefmillError
from ..base.files import make_folder, reason_of
from .columns import from_batch, schema_of
from .records import Reject
from .shards import Footer, Shard, damaged, guarded

R = TypeVar("R")


class _Content(NamedTuple):
    """What is kept of a footer: the whole of it takes a hundred times the memory."""

    groups: tuple[int, ...]  # rows of each row group
    footer: bytes


class Dataset(Generic[R]):
    """The committed rows of one stage, in input order. A snapshot: shards committed later need a new Dataset.

    `shards` are those that are read, by range. `conflicts` are those that claim an input which one of `shards` claims
    as well, wholly or in part: nothing reads them, and whoever writes to the run sets them aside. Of shards that
    overlap the one that covers more inputs is read, among equals the one whose name comes first. When one of `shards`
    has been set aside, a new Dataset may read what was in conflict with it.
    """

    def __init__(self, folder: Path, record_type: type[R]) -> None:
        self.folder, self.record_type = folder, record_type
        self.name = folder.name
        self.shards, self.conflicts = without_overlaps(_listed(folder))
        self._last_metadata: tuple[Shard, pq.FileMetaData] | None = None
        self._last_group: tuple[pa.Table, int] | None = None
        self._rows_by: dict[str, dict[str, int]] = {}

    def create(self) -> None:
        """Make the dataset's folder where it is not there. Raises PrefmillError when the file system refuses."""
        make_folder(self.folder)

    @cached_property
    def _contents(self) -> list[_Content]:
        contents = []
        for shard in self.shards:
            metadata = shard.metadata(self.record_type)
            groups = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
            contents.append(_Content(groups, metadata.metadata[b"prefmill"]))
        return contents

    @cached_property
    def _row_ends(self) -> list[int]:
        return list(accumulate(sum(content.groups) for content in self._contents))

    def __len__(self) -> int:
        return self._row_ends[-1] if self.shards else 0

    def __iter__(self) -> Iterator[R]:
        for number, content in enumerate(self._contents):
            with self._opened(number) as file:
                for group in range(len(content.groups)):
                    yield from from_batch(self.record_type, self._table(file, number, group))

    @contextlib.contextmanager
    def _opened(self, number: int, *, ahead: bool = False) -> Iterator[pq.ParquetFile]:
        """Open a shard; `ahead` reads all its row groups at once, which costs a single one a third of its time."""
        # not kept open: an open reader keeps megabytes, and a run has thousands of shards
        shard = self.shards[number]
        if not self._last_metadata or self._last_metadata[0] != shard:
            self._last_metadata = (shard, shard.metadata(self.record_type))
        metadata = self._last_metadata[1]
        options: dict[str, Any] = {"metadata": metadata, "page_checksum_verification": True, "pre_buffer": ahead}
        with guarded(shard), pq.ParquetFile(shard.path, **options) as file:
            yield file

    def _table(self, file: pq.ParquetFile, number: int, group: int, columns: Collection[str] = ()) -> pa.Table:
        names = list(columns) or schema_of(self.record_type).names
        table = file.read_row_group(group, columns=names, use_threads=False)
        if table.num_rows != self._contents[number].groups[group]:
            raise damaged(self.shards[number])
        return table

    def read(self, start: int, stop: int) -> list[R]:
        """Return rows start..stop-1, counted over the whole dataset."""
        records: list[R] = []
        while start < min(stop, len(self)):
            table, first = self._group_with(start)
            last = min(stop, first + table.num_rows)
            records += from_batch(self.record_type, table.slice(start - first, last - start))
            start = last
        return records

    def _group_with(self, row: int) -> tuple[pa.Table, int]:
        """Return the row group that holds a row, and the number of its first row. The last group is kept."""
        kept = self._last_group
        if kept and kept[1] <= row < kept[1] + kept[0].num_rows:
            return kept
        number = bisect_right(self._row_ends, row)
        first = self._row_ends[number - 1] if number else 0
        ends = list(accumulate(self._contents[number].groups, initial=first))
        group = bisect_right(ends, row) - 1
        with self._opened(number) as file:
            self._last_group = found = (self._table(file, number, group), ends[group])
        return found

    def matching(self, key: str, values: Iterable[str]) -> Iterator[R]:
        """Yield the rows whose `key` column holds one of the values, in the dataset's order.

        The other rows are not made into records, and row groups without a match give up their `key` column alone.
        """
        wanted = set(values)
        for number, content in enumerate(self._contents):
            with self._opened(number) as file:
                for group in range(len(content.groups)):
                    keys = self._table(file, number, group, [key]).column(0).to_pylist()
                    found = [row for row, value in enumerate(keys) if value in wanted]
                    if found:
                        yield from from_batch(self.record_type, self._table(file, number, group).take(found))

    def column(self, name: str) -> list[Any]:
        """Return one column of all rows: narrow, so cheap even where rows carry images."""
        values: list[Any] = []
        for number, content in enumerate(self._contents):
            with self._opened(number, ahead=True) as file:
                found = file.read(columns=[name]).column(0).to_pylist()
            if len(found) != sum(content.groups):
                raise damaged(self.shards[number])
            values += found
        return values

    def take(self, ids: Iterable[str], key: str = "id") -> Iterator[R]:
        """Yield the rows whose `key` column equals the given ids, in their order. Raises KeyError for an unknown id."""
        rows = self.rows_by(key)
        for wanted in ids:
            row = rows[wanted]
            yield self.read(row, row + 1)[0]

    def rows_by(self, key: str) -> dict[str, int]:
        """Return the row number of every value of a column of unique values."""
        if key not in self._rows_by:
            self._rows_by[key] = {value: row for row, value in enumerate(self.column(key))}
        return self._rows_by[key]

    def footers(self) -> Iterator[tuple[Shard, Footer]]:
        """Yield every shard with what its footer says."""
        for shard, content in zip(self.shards, self._contents, strict=True):
            try:
                footer = Footer.decode(content.footer)
            except (KeyError, TypeError, ValueError) as error:
                raise damaged(shard) from error
            yield shard, footer

    def rejects(self) -> Iterator[Reject]:
        """Yield the rows that went no further in this stage, with their reasons."""
        for _, footer in self.footers():
            yield from footer.rejects

    def reject_counts(self) -> dict[str, int]:
        """Return how many rows were rejected for each reason, most frequent first."""
        return dict(Counter(reject.reason for reject in self.rejects()).most_common())

    def set_aside(self, shard: Shard, why: str) -> Path:
        """Move a shard out of the dataset, so that its range is made again, and return where it went.

        Raises PrefmillError when the file system refuses.
        """
        aside = self.folder / "_set-aside"
        make_folder(aside)
        target, number = aside / f"{why}-{shard.path.name}", 1
        while target.exists() or target.is_symlink():
            number += 1
            target = aside / f"{why}-{number}-{shard.path.name}"
        try:
            shard.path.replace(target)
        except OSError as error:
            raise PrefmillError(
                f"cannot move {shard.path} to {aside}: {reason_of(error)}",
                "correct the permissions, then give the same command again",
            ) from error
        return target


def _listed(folder: Path) -> list[Shard]:
    try:
        return [shard for path in folder.iterdir() if (shard := Shard.parse(path))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise PrefmillError(f"cannot read {folder}: {reason_of(error)}", "correct its permissions or name") from error


def without_overlaps(found: list[Shard]) -> tuple[list[Shard], list[Shard]]:
    """Return the shards to read, by range, and those that overlap them."""
    kept: list[Shard] = []
    conflicts: list[Shard] = []
    for shard in sorted(found, key=lambda shard: (shard.start - shard.stop, shard.path.name)):
        place = bisect_right(kept, shard)
        is_free = (not place or kept[place - 1].stop <= shard.start) and (
            place == len(kept) or shard.stop <= kept[place].start
        )
        if is_free:
            insort(kept, shard)
        else:
            conflicts.append(shard)
    return kept, sorted(conflicts)
