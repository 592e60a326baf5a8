"""Shards: the Parquet files a stage's output is made of, each written once, whole or not at all.

A shard covers a range of the stage's inputs and says so in its name, together with the checksum of its bytes:

    000000128-000000256-9f2c4a60b1d37e58.parquet      inputs 128..255, SHA-256 starts with 9f2c...

So one atomic rename commits rows, range and checksum at once; a folder listing tells what is done and what is
missing; and no side file can disagree. The rejects of the range travel in the Parquet footer, so that a row is
either in the output or in the ledger, never in neither. A crash leaves at most one `.tmp-*` file, which nothing
reads. Any prefix, and any gap, is a valid state that the next run fills.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ..base.errors import PrefmillError
from ..base.files import sync
from .columns import to_table
from .records import Reject

CHECKSUM_LENGTH = 16
ROW_GROUP_BYTES = 16 << 20  # what a reader holds at a time
_NAME = re.compile(r"(\d{9,})-(\d{9,})-([0-9a-f]{16})\.parquet")


@dataclass(frozen=True, order=True)
class Shard:
    """A committed shard: the range of inputs it covers, its checksum, and its file."""

    start: int
    stop: int
    checksum: str
    path: Path

    @staticmethod
    def parse(path: Path) -> Shard | None:
        """Return the shard a file name stands for, or None for any other file."""
        match = _NAME.fullmatch(path.name)
        return Shard(int(match[1]), int(match[2]), match[3], path) if match else None

    def is_intact(self) -> bool:
        """Return whether the file's bytes still have the checksum in its name. Reads the whole file."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()[:CHECKSUM_LENGTH] == self.checksum


@dataclass(frozen=True)
class Footer:
    """What a shard says of itself besides its rows: the digest of the work it did, its rejects, its cost."""

    work: str
    rejects: tuple[Reject, ...] = ()
    seconds: float = 0.0

    def encode(self) -> dict[bytes, bytes]:
        """Return the footer as Parquet key-value metadata."""
        body = {"work": self.work, "rejects": [asdict(reject) for reject in self.rejects], "seconds": self.seconds}
        return {b"prefmill": json.dumps(body, ensure_ascii=True).encode()}

    @staticmethod
    def decode(metadata: dict[bytes, bytes] | None) -> Footer:
        """Return the footer stored in Parquet key-value metadata."""
        body = json.loads((metadata or {})[b"prefmill"])
        return Footer(body["work"], tuple(Reject(**reject) for reject in body["rejects"]), body["seconds"])


class _HashingFile:
    """A write-only file that hashes what passes through, so that a shard is not read back to be named."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.closed, self.size = file, hashlib.sha256(), False, 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.digest.update(view)
        self.size += view.nbytes
        return self.file.write(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.closed = True


def write_shard(
    folder: Path, start: int, stop: int, record_type: type, records: Sequence[Any], footer: Footer
) -> Shard:
    """Write the outputs of inputs [start, stop) and commit them by one atomic rename.

    Raises PrefmillError when the file system refuses (full disk, quota, permissions); nothing is committed then.
    """
    table = to_table(record_type, records)
    table = table.replace_schema_metadata(footer.encode())
    bulky = [field.name for field in table.schema if pa.types.is_large_binary(field.type)]
    narrow = [name for name in table.column_names if name not in bulky]
    rows_per_group = max(1, table.num_rows * ROW_GROUP_BYTES // max(table.nbytes, 1))
    temporary = folder / f".tmp-{start:09d}-{stop:09d}"
    try:
        with temporary.open("wb") as file:
            sink = _HashingFile(file)
            options: dict[str, Any] = {
                # images are compressed already; trying again only costs time
                "compression": {name: "none" if name in bulky else "zstd" for name in table.column_names},
                "write_page_checksum": True,  # a reader meets damage even where nobody verified the file
                "use_dictionary": narrow,
                "write_statistics": narrow,
            }
            pq.write_table(table, sink, row_group_size=rows_per_group, **options)
            file.flush()
            os.fsync(file.fileno())
        checksum = sink.digest.hexdigest()[:CHECKSUM_LENGTH]
        path = folder / f"{start:09d}-{stop:09d}-{checksum}.parquet"
        temporary.replace(path)
        sync(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PrefmillError(
            f"cannot write {temporary}: {error.strerror or error}. Rows committed before are safe.",
            "make room or correct the permissions, then give the same command again: it continues",
        ) from error
    return Shard(start, stop, checksum, path)
