"""ImageRewardDB's JSON: a prompt, its images, and a rank for each, 1 the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .judged_prompts import JudgedPrompt, judged_prompts
from .rankings import RankingWriter, ranks
from .writer import ExportFormat


class ImageRewardWriter(RankingWriter):
    """`imagereward.json` with id, prompt, generations and ranking; ties share a rank."""

    name = "imagereward"

    def row(self, prompt: JudgedPrompt, images: dict[str, str], standing: Sequence[int]) -> dict[str, Any]:
        """Return a ranked prompt."""
        return {
            "id": prompt.id,
            "prompt": prompt.text,
            "generations": list(images.values()),
            "ranking": ranks(standing),
        }


FORMAT = ExportFormat(
    "imagereward",
    "preferences between images as ImageRewardDB has them",
    "ranked prompts",
    judged_prompts,
    ImageRewardWriter,
    "prefmill eval reward {name}/imagereward.json --scorer imagereward --images {name}",
    {"default": "imagereward{suffix}.json", "annotations": "annotations.parquet"},
)
