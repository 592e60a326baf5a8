"""The store: a run is a folder, a stage's output is a sub-folder of shards with a manifest.

    run/
      run.yaml                  the configuration the run was started with
      .lock                     held by the one process that may write
      prompts/                  one folder per stage
        _manifest.json          configuration, models, backend, versions, counts, rejects by reason, seconds
        000000000-000000010-4be0….parquet
        _set-aside/             shards found damaged or out of date, kept for a look
      candidates/ ...

Names that begin with an underscore are skipped by Parquet readers, so a stage's folder opens as a table in any of them.
Reading streams: a reader holds one row group (16 MB) at a time, whatever the size of the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..base.errors import PrefmillError
from ..base.files import write_text
from .columns import from_batch, schema_of
from .records import Reject
from .shards import Footer, Shard

R = TypeVar("R")
MANIFEST = "_manifest.json"


class Dataset(Generic[R]):
    """The committed rows of one stage, in input order. A snapshot: shards committed later need a new Dataset."""

    def __init__(self, folder: Path, record_type: type[R]) -> None:
        self.folder, self.record_type = folder, record_type
        self.name = folder.name
        found = [shard for path in folder.glob("*.parquet") if (shard := Shard.parse(path))]
        self.shards = sorted(found)
        for left, right in pairwise(self.shards):
            if right.start < left.stop:
                raise PrefmillError(
                    f"{left.path} and {right.path.name} both claim input {right.start}",
                    f"move one of the two out of {folder}, then give the same command again",
                )

    @cached_property
    def _footers(self) -> list[pq.FileMetaData]:
        footers = []
        for shard in self.shards:
            with guarded(shard), pq.ParquetFile(shard.path) as file:
                if b"prefmill" not in (file.metadata.metadata or {}):
                    raise damaged(shard)
                footers.append(file.metadata)
        return footers

    @cached_property
    def _row_ends(self) -> list[int]:
        return list(accumulate(footer.num_rows for footer in self._footers))

    def __len__(self) -> int:
        return self._row_ends[-1] if self.shards else 0

    def __iter__(self) -> Iterator[R]:
        for number, footer in enumerate(self._footers):
            for group in range(footer.num_row_groups):
                yield from from_batch(self.record_type, self._read_group(number, group))

    def _read_group(self, number: int, group: int) -> pa.Table:
        # opened for each group: an open reader keeps megabytes, and a run has thousands of shards
        shard, footer = self.shards[number], self._footers[number]
        with guarded(shard), pq.ParquetFile(shard.path, metadata=footer, page_checksum_verification=True) as file:
            return file.read_row_group(group, columns=schema_of(self.record_type).names)

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
        kept: tuple[pa.Table, int] | None = getattr(self, "_kept", None)
        if kept and kept[1] <= row < kept[1] + kept[0].num_rows:
            return kept
        number = bisect_right(self._row_ends, row)
        first = self._row_ends[number - 1] if number else 0
        for group in range(self._footers[number].num_row_groups):
            rows = self._footers[number].row_group(group).num_rows
            if row < first + rows:
                self._kept = (self._read_group(number, group), first)
                return self._kept
            first += rows
        raise damaged(self.shards[number])

    def column(self, name: str) -> list[Any]:
        """Return one column of all rows: narrow, so cheap even where rows carry images."""
        values: list[Any] = []
        for shard, footer in zip(self.shards, self._footers, strict=True):
            with guarded(shard), pq.ParquetFile(shard.path, metadata=footer, page_checksum_verification=True) as file:
                values += file.read(columns=[name]).column(0).to_pylist()
        return values

    def take(self, ids: Iterable[str], key: str = "id") -> Iterator[R]:
        """Yield the rows whose `key` column equals the given ids, in their order. Raises KeyError for an unknown id."""
        rows = self.rows_by(key)
        for wanted in ids:
            row = rows[wanted]
            yield self.read(row, row + 1)[0]

    def rows_by(self, key: str) -> dict[str, int]:
        """Return the row number of every value of a column of unique values."""
        cache: dict[str, dict[str, int]] = self.__dict__.setdefault("_rows_by", {})
        if key not in cache:
            cache[key] = {value: row for row, value in enumerate(self.column(key))}
        return cache[key]

    def footers(self) -> Iterator[tuple[Shard, Footer]]:
        """Yield every shard with what its footer says."""
        for shard, footer in zip(self.shards, self._footers, strict=True):
            yield shard, Footer.decode(footer.metadata)

    def rejects(self) -> Iterator[Reject]:
        """Yield the rows that went no further in this stage, with their reasons."""
        for _, footer in self.footers():
            yield from footer.rejects

    def reject_counts(self) -> dict[str, int]:
        """Return how many rows were rejected for each reason, most frequent first."""
        return dict(Counter(reject.reason for reject in self.rejects()).most_common())

    def set_aside(self, shard: Shard, why: str) -> Path:
        """Move a shard out of the dataset, so that its range is made again, and return where it went."""
        aside = self.folder / "_set-aside"
        aside.mkdir(exist_ok=True)
        target = aside / f"{why}-{shard.path.name}"
        shard.path.replace(target)
        return target


@contextlib.contextmanager
def guarded(shard: Shard) -> Iterator[None]:
    """Turn a reader's complaint about a shard into the error that names it."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise damaged(shard) from error


def damaged(shard: Shard) -> PrefmillError:
    """Return the error for a shard whose bytes are not what was written."""
    return PrefmillError(
        f"{shard.path} is damaged (its bytes do not have the checksum in its name)",
        "give `prefmill run` for this run again: it sets the file aside and makes its rows again",
    )


class Run:
    """A run's folder. One process may write to it at a time; any number may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open an existing run for reading. Raises PrefmillError where there is none."""
        folder = Path(folder)
        if not folder.is_dir() or not (any(folder.glob(f"*/{MANIFEST}")) or (folder / "run.yaml").exists()):
            raise PrefmillError(
                f"{folder} is not a run folder",
                f"make one with `prefmill run micro --to {folder}` or `prefmill import`",
            )
        return cls(folder)

    @classmethod
    @contextlib.contextmanager
    def writing(cls, folder: Path | str) -> Iterator[Self]:
        """Open or create a run for writing and hold its lock. Raises PrefmillError when another process does."""
        run = cls(Path(folder))
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            run._lock = os.open(run.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise PrefmillError(
                f"cannot write to {folder}: {error.strerror}", "choose another folder with --to"
            ) from error
        try:
            fcntl.flock(run._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(run._lock, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(run._lock)
            raise PrefmillError(
                f"{folder} is in use by {holder}", "wait for it to end or stop it, or choose another folder with --to"
            ) from error
        try:
            os.ftruncate(run._lock, 0)
            os.pwrite(run._lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            for leftover in run.folder.glob("*/.tmp-*"):
                leftover.unlink()
            yield run
        finally:
            os.close(run._lock)  # the kernel drops the lock with the descriptor, also after SIGKILL
            run._lock = None

    def dataset(self, name: str, record_type: type[R]) -> Dataset[R]:
        """Return the rows a stage has committed so far (none for a stage that has not run)."""
        return Dataset(self.folder / name, record_type)

    def stages(self) -> list[str]:
        """Return the names of the stages that have written to this run, sorted."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))

    def has(self, name: str) -> bool:
        """Return whether a stage has written to this run."""
        return (self.folder / name / MANIFEST).exists()

    def manifest(self, name: str) -> dict[str, Any]:
        """Return a stage's manifest, empty when it has not run."""
        path = self.folder / name / MANIFEST
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write_manifest(self, name: str, manifest: dict[str, Any]) -> None:
        """Replace a stage's manifest."""
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        write_text(self.folder / name / MANIFEST, text)

    def forget_manifest(self, name: str) -> None:
        """Remove a stage's manifest, before its rows are made again with another configuration."""
        (self.folder / name / MANIFEST).unlink(missing_ok=True)
