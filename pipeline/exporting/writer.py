"""What an export format is: rows out of a run, a writer that takes them one at a time, how to load what it wrote."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Generic, Self, TextIO, TypeVar

from ..records import Candidate
from ..store import Run
from .image_names import ImageNames
from .lineage import TRAIN, Lineage

Row = TypeVar("Row")
SHARD_BYTES = 1 << 30
IMAGES = "images"


@dataclass(frozen=True)
class Target:
    """Where an export goes. `single`: it is one Parquet file; else it is a folder, and files end at `shard_bytes`."""

    path: Path
    single: bool = False
    shard_bytes: int = SHARD_BYTES


class Writer(ABC, Generic[Row]):
    """Takes the rows of an export. A context: what is open is closed at its end, also when something failed."""

    def __init__(self, target: Target) -> None:
        self.target, self.images = target, ImageNames()
        self.rows = Counter[str]()  # by split
        self.left_out = Counter[str]()  # by reason
        self.untied = 0  # pairs of images without a preference that a ranking had to order
        if not target.single:
            target.path.mkdir(parents=True)

    @abstractmethod
    def add(self, row: Row) -> dict[str, Any] | None:
        """Write a row; return what the data card counts of it, None where it was left out."""

    @abstractmethod
    def close(self) -> None:
        """Write what waits, and close the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def image_file(self, image: Candidate) -> str:
        """Write an image's bytes into `images/`, once, and return its path inside the export."""
        known = image.id in self.images.names
        path = PurePosixPath(IMAGES, self.images.name(image))
        if not known:
            (self.target.path / IMAGES).mkdir(exist_ok=True)
            (self.target.path / path).write_bytes(image.image)
        return str(path)


class JsonFiles:
    """JSON rows, one file per split: NAME.json (a list) or NAME.jsonl (lines), and NAME-test beside it."""

    def __init__(self, folder: Path, name: str, suffix: str) -> None:
        self.folder, self.name, self.suffix = folder, name, suffix
        self.files: dict[str, TextIO] = {}
        self.begins, self.between, self.ends = ("", "\n", "\n") if suffix == ".jsonl" else ("[\n", ",\n", "\n]\n")
        self.indent = None if suffix == ".jsonl" else 1

    def file_name(self, split: str) -> str:
        """Return the name of a split's file."""
        return f"{self.name}{'' if split == TRAIN else f'-{split}'}{self.suffix}"

    def add(self, split: str, row: dict[str, Any]) -> None:
        """Write a row. Half of a surrogate pair, which UTF-8 cannot hold, is written as JSON's escape."""
        begun = split in self.files
        if not begun:
            path = self.folder / self.file_name(split)
            self.files[split] = path.open("w", encoding="utf-8", errors="backslashreplace")
        text = json.dumps(row, ensure_ascii=False, indent=self.indent)
        self.files[split].write((self.between if begun else self.begins) + text)

    def close(self) -> None:
        """End the files and have them on the disk."""
        for file in self.files.values():
            file.write(self.ends)
            file.flush()
            os.fsync(file.fileno())
            file.close()


@dataclass(frozen=True)
class ExportFormat:
    """A format, declared at the end of its file.

    `rows` reads a run; `writer` makes what takes them. `unit` is what a row is called; `loading` is the code or command
    that loads an export, for its data card, where `{name}` is the export's folder; `tables` are the tables inside by
    name, each with the pattern of its files: `{split}` is train or test, `{suffix}` is "-test" for the latter.
    """

    name: str
    what: str
    unit: str
    rows: Callable[[Run, Lineage], Iterator[Any]]
    writer: Callable[[Target], Writer[Any]]
    loading: str
    tables: dict[str, str]
    single: bool = False  # may also be one Parquet file
