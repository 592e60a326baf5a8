"""Files of other people's answers and questions: JSON lines or a JSON list, packed by gzip or not.

Which one it is, is told by the content: official files of JSON lines are named `.json`. Every record knows its place,
so that an error can name it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ....base.files import reason_of
from ....base.paths import user_path

_GZIP, _BOM = b"\x1f\x8b", b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that an evaluation read: its path as it was given, and the SHA-256 of its bytes as they lie there."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One object of a file, and where it is: `answers.jsonl:17`, or `answers.json: item 17` of a list."""

    place: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class RecordFile:
    """A file's records in their order."""

    source: InputFile
    records: tuple[FileRecord, ...]

    @property
    def name(self) -> str:
        """The file's name, for errors."""
        return Path(self.source.path).name


def read_records(path: str | Path, option: str, *, rows: str = "answers") -> RecordFile:
    """Read a file of objects whole. `option` gave the path, and `rows` is what its records are called, in errors.

    A byte-order mark, CRLF, blank lines and gzip are read over. Raises PrefmillError for a file that is missing, empty,
    no UTF-8, or no JSON, with the line; and for a record that is no object.
    """
    path = user_path(path, option)
    if path.is_dir():
        raise PrefmillError(f"{path} is a folder", f"give {option} a file of {rows}")
    data, source = read_input(path, option)
    text = _text(data, path)
    try:
        records = _listed(text, path.name) if text.lstrip()[:1] == "[" else _lines(text, path.name)
    except RecursionError as error:
        raise PrefmillError(f"{path} is nested too deeply", f"give {option} a file of {rows}") from error
    if not records:
        raise PrefmillError(f"{path} holds no {rows}", f"give {option} a file with {rows}")
    return RecordFile(source, tuple(records))


def read_input(path: Path, option: str) -> tuple[bytes, InputFile]:
    """Return a file's bytes, unpacked if they are gzip's, and what names it. Raises PrefmillError where it cannot."""
    try:
        packed = path.read_bytes()
        data = gzip.decompress(packed) if packed.startswith(_GZIP) else packed
    except FileNotFoundError as error:
        raise PrefmillError(f"{path} does not exist", f"correct the path given with {option}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise PrefmillError(f"cannot read {path}: {reason_of(error)}", "check that the file is whole") from error
    return data, InputFile(str(path), hashlib.sha256(packed).hexdigest())


def _text(data: bytes, path: Path) -> str:
    try:
        return data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PrefmillError(f"{path.name}:{line}: not UTF-8 text ({error.reason})", "save it as UTF-8") from error


def _lines(text: str, name: str) -> list[FileRecord]:
    """JSON lines. Only a line feed ends one: a text may hold other separators."""
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise PrefmillError(
                    f"{name}:{number}: not valid JSON: {reason}", "write one object a line, or all of them as one list"
                ) from error
            records.append(_record(f"{name}:{number}", value))
    return records


def _listed(text: str, name: str) -> list[FileRecord]:
    try:
        values = json.loads(text)
    except ValueError as error:
        at = f"{name}:{error.lineno}: not valid JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else name
        raise PrefmillError(at, "correct this line of the list") from error
    return [_record(f"{name}: item {number}", value) for number, value in enumerate(values, 1)]


def _record(place: str, value: Any) -> FileRecord:
    if not isinstance(value, dict):
        raise PrefmillError(f"{place}: a {type(value).__name__} where an object was expected", "correct this row")
    return FileRecord(place, value)
