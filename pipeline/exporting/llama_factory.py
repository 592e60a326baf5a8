"""LLaMA-Factory's preference data: ShareGPT rows with chosen and rejected, and the dataset_info.json that names them.

Read from hiyouga/LLaMA-Factory, data/README.md and src/llamafactory/data/{parser,loader,converter}.py: paths of images
are joined to `media_dir`, which is `dataset_dir` where nothing else is said, so the folder works wherever it lies.
"""

from __future__ import annotations

import json
from typing import Any

from .lineage import TRAIN
from .pair_json import PairJson
from .pair_rows import PairRow, pair_rows
from .writer import ExportFormat

DATASET = "prefmill"
INFO = "dataset_info.json"


class LlamaFactoryWriter(PairJson):
    """`llama-factory.jsonl`, and the data sets `prefmill` and (held out) `prefmill_test`."""

    name, suffix = "llama-factory", ".jsonl"

    def row(self, row: PairRow, image: str) -> dict[str, Any]:
        """Return a pair."""
        return {
            "id": row.id,
            "conversations": [{"from": "human", "value": f"<image>{row.pair.instruction}"}],
            "chosen": {"from": "gpt", "value": row.pair.chosen},
            "rejected": {"from": "gpt", "value": row.pair.rejected},
            "images": [image],
        }

    def close(self) -> None:
        """End the files and describe them."""
        super().close()
        columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "images": "images"}
        described = {"formatting": "sharegpt", "ranking": True, "columns": columns}
        info = {
            DATASET if split == TRAIN else f"{DATASET}_{split}": {"file_name": self.files.file_name(split), **described}
            for split in self.files.files
        }
        (self.target.path / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


FORMAT = ExportFormat(
    "llama-factory",
    "ShareGPT rows with chosen, rejected and images, and dataset_info.json for LLaMA-Factory's DPO",
    "pairs",
    pair_rows,
    LlamaFactoryWriter,
    "llamafactory-cli train --stage dpo --do_train --dataset prefmill --dataset_dir {name} "
    "--model_name_or_path MODEL --template TEMPLATE --output_dir OUTPUT",
    {"default": "llama-factory{suffix}.jsonl"},
)
