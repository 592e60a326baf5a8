"""The formats of pairs that are JSON with a folder of images: each says only what its row is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from .pair_rows import PairRow
from .writer import JsonFiles, Target, Writer


class PairJson(Writer[PairRow]):
    """A JSON file by split, and the images with their original bytes beside it."""

    name: ClassVar[str]
    suffix: ClassVar[str] = ".json"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.files = JsonFiles(target.path, self.name, self.suffix)

    @abstractmethod
    def row(self, row: PairRow, image: str) -> dict[str, Any]:
        """Return what the format's loader reads of a pair; `image` is the path of its image."""

    def add(self, row: PairRow) -> dict[str, Any]:
        """Write a pair, and where it comes from beside what the loader reads."""
        said = self.row(row, self.image_file(row.image))
        self.files.add(row.split, said | row.about)
        self.rows[row.split] += 1
        return row.about

    def close(self) -> None:
        """End the files."""
        self.files.close()
