"""WebDataset: tar files in which an image and the JSON of its pair share a name, read in order without unpacking."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from ..exchange.image_files import suffix_of
from .pair_rows import PairRow, pair_rows
from .writer import ExportFormat, Target, Writer


class WebDatasetWriter(Writer[PairRow]):
    """SPLIT-00000.tar and so on. Members are numbered, nobody's, and as old as the epoch: equal rows, equal bytes."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.open: dict[str, tuple[tarfile.TarFile, int]] = {}
        self.shards: dict[str, int] = {}

    def add(self, row: PairRow) -> dict[str, Any]:
        """Write an image and its pair."""
        pair, number = row.pair, self.rows[row.split]
        said = {"id": row.id, "prompt": pair.instruction, "chosen": pair.chosen, "rejected": pair.rejected}
        text = json.dumps(said | row.about, ensure_ascii=False).encode("utf-8", "backslashreplace")
        self.images.name(row.image)
        tar, written = self.open.pop(row.split, None) or self._begin(row.split)
        for suffix, data in ((suffix_of(row.image.image), row.image.image), (".json", text)):
            member = tarfile.TarInfo(f"{number:09d}{suffix}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            written += len(data)
        if written >= self.target.shard_bytes:
            tar.close()
        else:
            self.open[row.split] = tar, written
        self.rows[row.split] += 1
        return row.about

    def _begin(self, split: str) -> tuple[tarfile.TarFile, int]:
        number = self.shards.get(split, 0)
        self.shards[split] = number + 1
        return tarfile.open(self.target.path / f"{split}-{number:05d}.tar", "w"), 0

    def close(self) -> None:
        """End the files."""
        for tar, _ in self.open.values():
            tar.close()


FORMAT = ExportFormat(
    "webdataset",
    "tar files of images and JSON, for WebDataset and streaming",
    "pairs",
    pair_rows,
    WebDatasetWriter,
    "import glob\n\nimport webdataset\n\n"
    'pairs = webdataset.WebDataset(sorted(glob.glob("{name}/train-*.tar")), shardshuffle=False).decode("pil")',
    {"default": "{split}-*.tar"},
)
