"""ms-swift's standard rows for DPO and reward models: messages, rejected_response, images, margin.

Read from modelscope/ms-swift, docs Custom-dataset and swift/llm/dataset/preprocessor/core.py; columns that it does not
know are dropped there. Paths of images are relative to the working folder or to ROOT_IMAGE_DIR
(swift/llm/template/vision_utils.py).
"""

from __future__ import annotations

from typing import Any

from .pair_json import PairJson
from .pair_rows import PairRow, messages, pair_rows
from .writer import ExportFormat


class MsSwiftWriter(PairJson):
    """`ms-swift.jsonl`; the last message is the chosen answer."""

    name, suffix = "ms-swift", ".jsonl"

    def row(self, row: PairRow, image: str) -> dict[str, Any]:
        """Return a pair."""
        return {
            "id": row.id,
            "messages": messages(f"<image>{row.pair.instruction}", row.pair.chosen),
            "rejected_response": row.pair.rejected,
            "images": [image],
        }


FORMAT = ExportFormat(
    "ms-swift",
    "messages, rejected_response and images as ms-swift reads them, and images",
    "pairs",
    pair_rows,
    MsSwiftWriter,
    "ROOT_IMAGE_DIR={name} swift rlhf --rlhf_type dpo --model MODEL --dataset {name}/ms-swift.jsonl",
    {"default": "ms-swift{suffix}.jsonl"},
)
