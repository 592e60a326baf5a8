"""The JSON of PDS-DPO, as the authors' trainer reads it (github.com/pds-dpo/pds-dpo): both conversations of a pair."""

from __future__ import annotations

from typing import Any

from .pair_json import PairJson
from .pair_rows import PairRow, pair_rows, turns
from .writer import ExportFormat


class PdsDpoWriter(PairJson):
    """`pds-dpo.json` with id, image, conversations and rejected_conversations."""

    name = "pds-dpo"

    def row(self, row: PairRow, image: str) -> dict[str, Any]:
        """Return a pair; the question carries the marker that the trainer replaces by the image."""
        question = f"<image> {row.pair.instruction}"
        return {
            "id": row.id,
            "image": image,
            "conversations": turns(question, row.pair.chosen),
            "rejected_conversations": turns(question, row.pair.rejected),
        }


FORMAT = ExportFormat(
    "pds-dpo",
    "the JSON of PDS-DPO's authors, and images",
    "pairs",
    pair_rows,
    PdsDpoWriter,
    'import json\n\nrows = json.load(open("{name}/pds-dpo.json"))',
    {"default": "pds-dpo{suffix}.json"},
)
