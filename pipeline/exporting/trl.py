"""TRL's vision preference data: Parquet with images (bytes inside), prompt, chosen and rejected as messages."""

from __future__ import annotations

from typing import Any

from .lineage import PAIR_COLUMNS
from .pair_rows import PairRow, messages, pair_rows
from .parquet_shards import ParquetShards, features
from .writer import ExportFormat, Target, Writer

IMAGE = ("images.list.element.bytes", "images.list.element.path")


class TrlWriter(Writer[PairRow]):
    """The columns of TRL's DPOTrainer, with the features that `datasets` reads from the file."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        from datasets import Image, List, Value

        said = List({"role": Value("string"), "content": Value("string")})
        columns = {"id": "string", "images": List(Image()), "prompt": said, "chosen": said, "rejected": said}
        self.shards = ParquetShards(target, features(columns | PAIR_COLUMNS).arrow_schema, IMAGE)

    def add(self, row: PairRow) -> dict[str, Any]:
        """Write a pair."""
        (asked, chosen), (_, rejected) = (
            messages(row.pair.instruction, one) for one in (row.pair.chosen, row.pair.rejected)
        )
        said = {"id": row.id, "prompt": [asked], "chosen": [chosen], "rejected": [rejected]}
        images = {"images": [{"bytes": row.image.image, "path": self.images.name(row.image)}]}
        self.shards.add(row.split, said | images | row.about, len(row.image.image))
        self.rows[row.split] += 1
        return row.about

    def close(self) -> None:
        """End the files."""
        self.shards.close()


FORMAT = ExportFormat(
    "trl",
    "Parquet with images, prompt, chosen and rejected: loads with `datasets`, fits TRL's DPOTrainer",
    "pairs",
    pair_rows,
    TrlWriter,
    'from datasets import load_dataset\n\npairs = load_dataset("{name}")',
    {"default": "{split}-*.parquet"},
    single=True,
)
