"""The JSON of LLaVA's supervised training: the instruction and the chosen answer."""

from __future__ import annotations

from typing import Any

from .pair_json import PairJson
from .pair_rows import PairRow, pair_rows, turns
from .writer import ExportFormat


class LlavaWriter(PairJson):
    """`llava.json` with id, image and conversations."""

    name = "llava"

    def row(self, row: PairRow, image: str) -> dict[str, Any]:
        """Return a pair's better half."""
        said = turns(f"<image>\n{row.pair.instruction}", row.pair.chosen)
        return {"id": row.id, "image": image, "conversations": said}


FORMAT = ExportFormat(
    "llava",
    "LLaVA/ShareGPT JSON of instruction and chosen answer, and images",
    "pairs",
    pair_rows,
    LlavaWriter,
    'import json\n\nrows = json.load(open("{name}/llava.json"))',
    {"default": "llava{suffix}.json"},
)
