"""HPDv2's JSON, as its test set: a prompt, its images, their mean ranks, and what every presentation ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .judged_prompts import JudgedPrompt, judged_prompts
from .rankings import RankingWriter, mean_ranks, presented, rated_order
from .writer import ExportFormat


class Hpdv2Writer(RankingWriter):
    """`hpdv2.json` with prompt, image_path, rank and raw_annotations; ties share their mean rank."""

    name = "hpdv2"

    def row(self, prompt: JudgedPrompt, images: dict[str, str], standing: Sequence[int]) -> dict[str, Any]:
        """Return a ranked prompt; a presentation that did not rate every image is not among `raw_annotations`."""
        shown = [rows for folder in prompt.annotations.values() for rows in presented(folder)]
        orders = [rated_order(rows, list(images)) for rows in shown]
        return {
            "prompt": prompt.text,
            "image_path": list(images.values()),
            "rank": mean_ranks(standing),
            "raw_annotations": [order for order in orders if order is not None],
        }


FORMAT = ExportFormat(
    "hpdv2",
    "the same as HPDv2's test set",
    "ranked prompts",
    judged_prompts,
    Hpdv2Writer,
    "prefmill eval reward {name}/hpdv2.json --scorer imagereward --images {name}",
    {"default": "hpdv2{suffix}.json", "annotations": "annotations.parquet"},
)
