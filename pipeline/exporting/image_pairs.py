"""Preferences between images as Pick-a-Pic's Parquet, which Diffusion-DPO trains on: one row per preference.

Read from SalesforceAIResearch/DiffusionDPO, train.py: `jpg_0` and `jpg_1` are the encoded bytes themselves, so they are
no images of `datasets`, and `label_0` says which of the two is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..annotating.settings import OVERALL
from ..records import ImagePreference, seed_for
from ..store import Run
from .judged_prompts import JudgedPrompt, judged_prompts
from .lineage import Lineage
from .parquet_shards import ParquetShards
from .ratings import RATING, rating
from .writer import ExportFormat, Target, Writer

_SIDES = (
    *(("jpg", pa.binary()), ("label", pa.float64()), ("image_{}_uid", pa.string()), ("model", pa.string())),
    *(("guidance", pa.float64()), ("seed", pa.int64()), ("steps", pa.int64()), ("score", pa.float64())),
    ("ratings", pa.list_(pa.struct(RATING))),
)
_PAIRS = pa.schema(
    [
        ("caption", pa.string()),
        *((name.format(side) if "{}" in name else f"{name}_{side}", kind) for name, kind in _SIDES for side in (0, 1)),
        *(("best_image_uid", pa.string()), ("has_label", pa.bool_()), ("are_different", pa.bool_())),
        *(("aspect", pa.string()), ("margin", pa.float64()), ("split", pa.string()), ("scorer", pa.string())),
        *(("source", pa.string()), ("topic", pa.string()), ("prompt_id", pa.string()), ("id", pa.string())),
    ]
)


@dataclass(frozen=True)
class ImagePairRow:
    """A preference with its prompt, which knows its images."""

    preference: ImagePreference
    prompt: JudgedPrompt


def image_pair_rows(run: Run, lineage: Lineage) -> Iterator[ImagePairRow]:
    """Yield every preference. Raises PrefmillError where there are none."""
    for prompt in judged_prompts(run, lineage):
        for preference in prompt.preferences:
            yield ImagePairRow(preference, prompt)


class ImagePairsWriter(Writer[ImagePairRow]):
    """One Parquet file, or a folder of shards."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.shards = ParquetShards(target, _PAIRS, ("jpg_0", "jpg_1"))

    def add(self, row: ImagePairRow) -> dict[str, Any]:
        """Write a pair; which of the two comes first depends on its id, so that no reader learns a side."""
        preference, prompt = row.preference, row.prompt
        chosen, rejected = (prompt.image(image) for image in (preference.chosen_id, preference.rejected_id))
        sides = [(chosen, 1.0), (rejected, 0.0)]
        if seed_for(preference.id, "order") % 2:
            sides.reverse()
        told = prompt.lineage.of_image(chosen)
        said: dict[str, Any] = {
            "caption": preference.prompt,
            "best_image_uid": chosen.id,
            "has_label": True,
            "are_different": True,
            "aspect": preference.aspect,
            "margin": preference.margin,
            "split": prompt.split,
            "scorer": told["image_scorer"],
            "source": preference.source,
            "topic": told["topic"],
            "prompt_id": preference.prompt_id,
            "id": preference.id,
        }
        for side, (image, label) in enumerate(sides):
            self.images.name(image)
            rated = [one for one in prompt.by_image.get(image.id, ()) if preference.aspect in (OVERALL, one.aspect)]
            said |= {
                f"jpg_{side}": image.image,
                f"label_{side}": label,
                f"image_{side}_uid": image.id,
                f"model_{side}": image.model,
                f"guidance_{side}": image.guidance,
                f"seed_{side}": image.seed,
                f"steps_{side}": image.steps,
                f"score_{side}": prompt.lineage.of_image(image)["image_score"],
                f"ratings_{side}": [rating(one) for one in rated],
            }
        self.shards.add(prompt.split, said, len(chosen.image) + len(rejected.image))
        self.rows[prompt.split] += 1
        return {
            "margin": preference.margin,
            "chosen_responder": chosen.model,
            "rejected_responder": rejected.model,
        } | told

    def close(self) -> None:
        """End the files."""
        self.shards.close()


FORMAT = ExportFormat(
    "image-pairs",
    "Parquet as Pick-a-Pic's, which Diffusion-DPO trains on, with ratings",
    "pairs of images",
    image_pair_rows,
    ImagePairsWriter,
    'from datasets import load_dataset\n\npairs = load_dataset("{name}")',
    {"default": "{split}-*.parquet"},
    single=True,
)
