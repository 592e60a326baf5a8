"""Pairs out of a run, in the formats that trainers read.

    trl       Parquet with images (bytes inside), prompt, chosen, rejected as messages: `datasets` and TRL's vision DPO
              load it as it is. One file where the output is called *.parquet, else a folder of shards
    pds-dpo   pds-dpo.json as the authors' trainer reads it, and images/ with the original bytes
    llava     llava.json: the instruction and the chosen answer, and images/

Images pass through one at a time, so the size of the run does not matter. The output appears under its name only when
it is whole: it is written beside it first and renamed.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ...base.errors import PrefmillError
from ...base.files import make_folder, replacing
from ...base.paths import user_path
from ..candidate_folders import CandidateLookup
from ..records import Candidate, Pair
from ..store import Dataset, Run
from .image_names import ImageNames

ExportFormat = Literal["trl", "pds-dpo", "llava"]
GROUP_BYTES = 32 << 20  # a Parquet row group: what a reader holds at a time
SHARD_BYTES = 1 << 30
_IMAGE_COLUMNS = ("images.list.element.bytes", "images.list.element.path")
_MESSAGES = [f"{side}.list.element.{part}" for side in ("prompt", "chosen", "rejected") for part in ("role", "content")]
_TRL_COLUMNS = ("id", *_IMAGE_COLUMNS, *_MESSAGES)


@dataclass(frozen=True)
class ExportReport:
    """What was exported: how many pairs, about how many different images, and where."""

    pairs: int
    images: int
    path: Path


def export(run: Run, output: Path, format: ExportFormat, *, shard_bytes: int = SHARD_BYTES) -> ExportReport:
    """Write a run's pairs to `output`, which must not exist yet. `shard_bytes` bounds the files of a trl folder.

    Raises PrefmillError when there are no pairs, when the output exists, and when it cannot be written; nothing is
    left of it then.
    """
    output = user_path(output, "--to")
    if output.exists() or output.is_symlink():
        raise PrefmillError(f"{output} exists already", "choose another --to, or delete it first")
    pairs = run.dataset("pairs", Pair)
    if not len(pairs):
        rejects = ", ".join(f"{count} {reason}" for reason, count in pairs.reject_counts().items())
        raise PrefmillError(
            f"{run.folder} holds no pairs{f' (rejected: {rejects})' if rejects else ''}",
            f"make some with `prefmill run`, or import some with `prefmill import --pairs`; then export {run.folder}",
        )
    make_folder(output.parent)
    with replacing(output) as temporary:
        writer = _writer(format, temporary, shard_bytes, single=output.suffix == ".parquet")
        try:
            for pair, image in _illustrated(run, pairs):
                writer.add(pair, image)
        finally:
            writer.close()
    return ExportReport(len(pairs), len(writer.images.names), output)


def _illustrated(run: Run, pairs: Dataset[Pair]) -> Iterator[tuple[Pair, Candidate]]:
    candidates = CandidateLookup(run)
    image: Candidate | None = None
    for pair in pairs:
        if image is None or image.id != pair.image_id:
            if pair.image_id not in candidates:
                raise PrefmillError(
                    f"pair {pair.id} is about image {pair.image_id}, which {run.folder} does not hold",
                    "give `prefmill run` for this run again: it makes missing rows",
                )
            image = candidates[pair.image_id]
        yield pair, image


class _Writer(ABC):
    """Takes pairs one at a time. `images` knows the names of the images written."""

    def __init__(self) -> None:
        self.images = ImageNames()

    @abstractmethod
    def add(self, pair: Pair, image: Candidate) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class _JsonWriter(_Writer):
    """A JSON list, one row at a time, and a folder of images."""

    def __init__(self, folder: Path, format: ExportFormat) -> None:
        super().__init__()
        self.folder, self.format = folder, format
        (folder / "images").mkdir(parents=True)
        self.file = (folder / f"{format}.json").open("w", encoding="utf-8")
        self.separator = "[\n"

    def add(self, pair: Pair, image: Candidate) -> None:
        known = image.id in self.images.names
        path = PurePosixPath("images", self.images.name(image))
        if not known:
            (self.folder / path).write_bytes(image.image)
        row: dict[str, Any] = {"id": pair.source or pair.id, "image": str(path)}
        if self.format == "pds-dpo":
            question = f"<image> {pair.instruction}"
            row["conversations"] = _turns(question, pair.chosen)
            row["rejected_conversations"] = _turns(question, pair.rejected)
        else:
            row["conversations"] = _turns(f"<image>\n{pair.instruction}", pair.chosen)
        self.file.write(self.separator + json.dumps(row, ensure_ascii=False, indent=1))
        self.separator = ",\n"

    def close(self) -> None:
        self.file.write("\n]\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


class _TrlWriter(_Writer):
    """Parquet with the columns of TRL's vision DPO and the features that `datasets` reads from its metadata."""

    def __init__(self, target: Path, shard_bytes: int, single: bool) -> None:
        super().__init__()
        self.target, self.shard_bytes, self.single = target, shard_bytes, single
        self.schema = _trl_schema()
        self.file: pq.ParquetWriter | None = None
        self.shards, self.written, self.pending = 0, 0, 0
        self.rows: list[dict[str, Any]] = []
        if not single:
            target.mkdir()

    def add(self, pair: Pair, image: Candidate) -> None:
        self.rows.append(
            {
                "id": pair.source or pair.id,
                "images": [{"bytes": image.image, "path": self.images.name(image)}],
                "prompt": [{"role": "user", "content": pair.instruction}],
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
        )
        self.pending += len(image.image)
        if self.pending >= min(GROUP_BYTES, self.shard_bytes):
            self._write_group()

    def _write_group(self) -> None:
        if not self.rows:
            return
        if self.file is None:
            path = self.target if self.single else self.target / f"train-{self.shards:05d}.parquet"
            options: dict[str, Any] = {
                # images are compressed already; trying again only costs time
                "compression": {column: "none" if column in _IMAGE_COLUMNS else "zstd" for column in _TRL_COLUMNS},
                "use_dictionary": [column for column in _TRL_COLUMNS if column not in _IMAGE_COLUMNS],
                "write_statistics": ["id"],
            }
            self.file = pq.ParquetWriter(path, self.schema, **options)
            self.shards, self.written = self.shards + 1, 0
        self.file.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.written += self.pending
        self.rows, self.pending = [], 0
        if self.written >= self.shard_bytes and not self.single:
            self._end_shard()

    def _end_shard(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def close(self) -> None:
        self._write_group()
        self._end_shard()


def _writer(format: ExportFormat, target: Path, shard_bytes: int, single: bool) -> _Writer:
    return _TrlWriter(target, shard_bytes, single) if format == "trl" else _JsonWriter(target, format)


def _trl_schema() -> pa.Schema:
    from datasets import Features, Image, List, Value

    messages = List({"role": Value("string"), "content": Value("string")})
    features = {"id": Value("string"), "images": List(Image())}
    return Features({**features, "prompt": messages, "chosen": messages, "rejected": messages}).arrow_schema


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
