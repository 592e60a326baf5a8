"""Shards: the Parquet files a stage's output is made of, each written once, whole or not at all.

A shard covers a range of the stage's inputs and says so in its name, together with the checksum of its bytes:

    000000128-000000256-9f2c4a60b1d37e58.parquet      inputs 128..255, SHA-256 starts with 9f2c...

So one atomic rename commits rows, range and checksum at once; a folder listing tells what is done and what is
missing; and no side file can disagree. The rejects of the range travel in the Parquet footer, so that a row is
either in the output or in the ledger, never in neither. Any prefix, and any gap, is a valid state that the next run
fills. The same rows have the same bytes and so the same name: what they took to make is in the run's ledger.

One process commits, the holder of the run's lock. Others stage: they write a whole shard into `_staged/` under a name
of its own, where nobody reads it, and the holder gives it its place (`stage_shard`, `adopt`). What is staged by one
that was given up for dead stays there and counts for nothing.

Damage is found at two depths. `is_intact` hashes the file: whoever continues a run does that. A reader that wants ten
rows of a large file does not; it meets a SHA-256 over the footer (the 32 bytes before it, where Parquet readers do not
look) and a checksum in every page, and compares the columns with the record type's.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..base.errors import PrefmillError
from ..base.files import move, reason_of, replacing, sha256_of
from .columns import schema_of, to_table
from .records import Reject
from .usage import Usage

STAGED = "_staged"
"""The folder beside a stage's shards for those that were written and not yet committed."""
CHECKSUM_LENGTH = 16
ROW_GROUP_BYTES = 1 << 20
"""What a reader holds at a time: an image of a megapixel alone, so that who wants one of four reads one of four."""
FEW_ROWS = 16
_NAME = re.compile(r"([0-9]{9,})-([0-9]{9,})-([0-9a-f]{16})\.parquet")
_MAGIC = b"PAR1"
_SEAL = hashlib.sha256().digest_size


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
        if not match or int(match[1]) >= int(match[2]):
            return None
        return Shard(int(match[1]), int(match[2]), match[3], path)

    @property
    def name(self) -> str:
        """What a committed shard's file is called."""
        return f"{self.start:09d}-{self.stop:09d}-{self.checksum}.parquet"

    def is_intact(self) -> bool:
        """Return whether the file's bytes still have the checksum in its name. Reads the whole file.

        Raises PrefmillError where that cannot be told: the file may not be read.
        """
        try:
            return self.path.is_file() and sha256_of(self.path)[:CHECKSUM_LENGTH] == self.checksum
        except OSError as error:
            if error.errno == errno.EIO:  # the disk no longer gives its bytes
                return False
            raise _unreadable(self, error) from error

    def metadata(self, record_type: type) -> pq.FileMetaData:
        """Return the Parquet footer, verified. Raises PrefmillError when the shard is damaged or holds other rows."""
        with guarded(self):
            footer = self._sealed_footer()
            if footer is None and not self.is_intact():  # an intact one without a seal is of an older version
                raise damaged(self)
            metadata = pq.read_metadata(self.path if footer is None else pa.BufferReader(_MAGIC + footer))
            columns = metadata.schema.to_arrow_schema().remove_metadata()
        if b"prefmill" not in (metadata.metadata or {}):
            raise damaged(self)
        if not columns.equals(schema_of(record_type)):
            raise PrefmillError(
                f"{self.path} does not hold {record_type.__name__} rows: its columns are {', '.join(columns.names)}",
                "it is another stage's, or was made by another version of Prefmill: move it out of the run",
            )
        return metadata

    def _sealed_footer(self) -> bytes | None:
        """Return the footer's bytes, its length and mark included; None where its seal is not that of its bytes."""
        if not self.path.is_file():  # a folder, a pipe
            raise damaged(self)
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 8))
            length = int.from_bytes(file.read(4), "little") + 8
            if length + _SEAL > size:
                return None
            file.seek(size - length - _SEAL)
            seal, footer = file.read(_SEAL), file.read()
        return footer if hashlib.sha256(footer).digest() == seal else None


@dataclass(frozen=True)
class Footer:
    """What a shard says of itself besides its rows: the digest of the work it did, and its rejects.

    `seconds` of the device and `usage` of models behind requests are those of shards of earlier versions: since then
    the run's ledger has them, for the same rows have the same bytes.
    """

    work: str
    rejects: tuple[Reject, ...] = ()
    seconds: float = 0.0
    usage: Usage | None = None

    def encode(self) -> dict[bytes, bytes]:
        """Return the footer as Parquet key-value metadata."""
        body = {"work": self.work, "rejects": [asdict(reject) for reject in self.rejects], "seconds": self.seconds}
        if self.usage is not None:
            body["usage"] = asdict(self.usage)
        return {b"prefmill": json.dumps(body, ensure_ascii=True).encode()}

    @staticmethod
    def decode(text: bytes) -> Footer:
        """Return the footer stored in Parquet key-value metadata under "prefmill"."""
        body = json.loads(text)
        usage = Usage(**body["usage"]) if "usage" in body else None
        return Footer(body["work"], tuple(Reject(**reject) for reject in body["rejects"]), body["seconds"], usage)


def write_shard(
    folder: Path, start: int, stop: int, record_type: type, records: Sequence[Any], footer: Footer
) -> Shard:
    """Write the outputs of inputs [start, stop) and commit them by one atomic rename.

    Raises PrefmillError when the file system refuses (full disk, quota, permissions); nothing is committed then.
    """
    table = _table(record_type, records, footer)
    return _write(table, start, stop, folder / f"{start:09d}-{stop:09d}", lambda shard: folder / shard.name)


def stage_shard(
    folder: Path, start: int, stop: int, record_type: type, records: Sequence[Any], footer: Footer
) -> Shard:
    """Write the outputs of inputs [start, stop) into the folder's `_staged`, for `adopt` to commit; raises as above."""
    place = folder / STAGED / uuid.uuid4().hex
    return _write(_table(record_type, records, footer), start, stop, place, lambda _: place)


def adopt(staged: Shard, folder: Path) -> Shard:
    """Commit a staged shard by one atomic rename. Raises PrefmillError when the file system refuses."""
    path = folder / staged.name
    move(staged.path, path)
    return replace(staged, path=path)


def _table(record_type: type, records: Sequence[Any], footer: Footer) -> pa.Table:
    return to_table(record_type, records).replace_schema_metadata(footer.encode())


def _write(table: pa.Table, start: int, stop: int, place: Path, named: Callable[[Shard], Path]) -> Shard:
    rows_per_group = max(1, table.num_rows * ROW_GROUP_BYTES // max(table.nbytes, 1))
    # images are compressed already, and for a few rows dictionaries and statistics are larger than the values
    is_bulky = rows_per_group < FEW_ROWS
    columns = [field.name for field in table.schema if not is_bulky and not pa.types.is_large_binary(field.type)]
    options: dict[str, Any] = {
        "compression": {name: "zstd" if name in columns else "none" for name in table.column_names},
        "write_page_checksum": True,
        "use_dictionary": columns,
        "write_statistics": columns,
    }
    shards: list[Shard] = []

    def final(written: Path) -> Path:
        shard = Shard(start, stop, sha256_of(written)[:CHECKSUM_LENGTH], place)
        shards.append(replace(shard, path=named(shard)))
        return shards[0].path

    with replacing(place, final) as temporary:
        pq.write_table(table, temporary, row_group_size=rows_per_group, **options)
        _seal(temporary)
    return shards[0]


def _seal(path: Path) -> None:
    """Put the SHA-256 of a Parquet file's footer before it. What the footer points to lies further ahead and stays."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(size - 8)
        start = size - 8 - int.from_bytes(file.read(4), "little")
        file.seek(start)
        footer = file.read()
        file.seek(start)
        file.write(hashlib.sha256(footer).digest() + footer)


@contextlib.contextmanager
def guarded(shard: Shard) -> Iterator[None]:
    """Turn a reader's complaint about a shard into the error that names it."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EIO}:
            raise _unreadable(shard, error) from error
        raise damaged(shard) from error


def damaged(shard: Shard) -> PrefmillError:
    """Return the error for a shard whose bytes are not what was written."""
    return PrefmillError(
        f"{shard.path} is damaged (its bytes do not have the checksum in its name)",
        "give `prefmill run` for this run again: it sets the file aside and makes its rows again",
    )


def _unreadable(shard: Shard, error: OSError) -> PrefmillError:
    return PrefmillError(f"cannot read {shard.path}: {reason_of(error)}", "correct its permissions, then try again")
