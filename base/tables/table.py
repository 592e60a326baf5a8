"""What the tables of other people have in common: rows by number, each with its place (`file:line`).

An import goes over a table twice: once to see what is in it (`scan`, which leaves embedded images out where that
saves reading them), and once to take the rows a batch needs (`rows`). Neither holds more than a few rows at a time,
except for a whole-file JSON. A row that cannot be read comes with its fault instead of its fields; what is no text in
one field (`invalid_text`) leaves the other fields as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import PrefmillError
from ..files import sha256_of

BOM = b"\xef\xbb\xbf"
_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a WebP image or a sound",
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"\x1f\x8b": "a gzip file",
    b"%PDF-": "a PDF",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


class BadRow(Exception):
    """A row that cannot be used. Becomes a Reject with this reason; never leaves the importer."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Row:
    """A row, or why there is none. `number` counts from 0 and is what `Table.rows` takes."""

    place: str
    number: int
    fields: dict[str, Any]
    fault: BadRow | None = None


class Table(ABC):
    """Rows by number. `name` is the input's own, also where `path` is a copy of it.

    `text_column`: where a row that is plain text goes. `embeds`: some column holds bytes, so images may be in the
    table itself. `untyped`: its format knows nothing but text, so numbers are spelled.
    """

    kind: str
    embeds = False
    untyped = False

    def __init__(self, path: Path, name: str, text_column: str | None = None) -> None:
        self.path, self.name, self.text_column = path, name, text_column
        self.folder = path if path.is_dir() else path.parent  # where relative paths in it start
        self._cursor: tuple[int, Iterator[Row]] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _from(self, start: int, embedded: bool) -> Iterator[Row]:
        """Yield the rows from a number on."""

    def scan(self) -> Iterator[Row]:
        """Yield every row, without embedded bytes where leaving them out saves reading them."""
        return self._from(0, embedded=False)

    def rows(self, start: int, stop: int) -> list[Row]:
        """Return rows start..stop-1 whole. Going on where the last call ended costs no seeking."""
        position, iterator = self._cursor or (-1, iter(()))
        if position != start:
            iterator = self._from(start, embedded=True)
        found = list(islice(iterator, stop - start))
        self._cursor = (start + len(found), iterator)
        return found

    @cached_property
    def sha256(self) -> str:
        """The digest of the table's bytes."""
        with readable(self.path):
            return sha256_of(self.path)


def binary_kind(path: Path) -> str | None:
    """Return what a file is, in words, where its first bytes say that it is neither UTF-8 text nor Parquet."""
    with readable(path), path.open("rb") as file:
        head = file.read(16)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def not_text(error: UnicodeDecodeError) -> BadRow:
    """Return the fault of a row whose bytes are not UTF-8."""
    return BadRow("binary", f"not UTF-8 text: {error.reason} at byte {error.start}")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a broken or missing file raises into a PrefmillError that names it."""
    try:
        yield
    except PrefmillError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        first_line = (str(error).splitlines() or ["?"])[0]
        raise PrefmillError(
            f"cannot read {path}: {first_line}", "check that the file is whole and of that type"
        ) from error
