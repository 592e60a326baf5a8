"""From pairs to what the trainer feeds its model: a layout, the images' features, the reference's log-probabilities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from ...base.errors import PrefmillError
from ...pipeline.records import Pair
from ..job import TrainingJob
from .attention import AttentionWay
from .cache import ReferenceCache, VisionCache
from .layout import PairTokens, lay_out, split
from .positions import PrefixPositions
from .scorer import IMAGE_INPUTS, model_inputs


class PairBatches:
    """The trainer's collator. Reads caches where they are set, and images where they are not."""

    def __init__(self, job: TrainingJob, way: AttentionWay, positions: PrefixPositions | None = None) -> None:
        self.job = job
        self.positions = positions
        self.way: AttentionWay = way
        self.vision: VisionCache | None = None
        self.reference: ReferenceCache | None = None
        self._sizes = job.images.sizes()
        tokenizer = job.collator.tokenizer
        self._pad: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._tokens: dict[str, PairTokens] = {}
        self._keys: dict[str, str] = {}

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Return a batch.

        `model`: the scorer's keyword arguments; segments, chosen_tokens: see Layout; reference [2B] or None; `pairs`:
        their ids; `tokens`: how many are read.
        """
        tokens = [self.tokens(pair) for pair in pairs]
        layout = lay_out(tokens, self._pad, packed=self.way != "mask", prefixes=self._prefixes(pairs))
        reference = None
        if self.reference:
            found = [self.reference.get(self.key(pair)) for pair in pairs]
            reference = torch.tensor([chosen for chosen, _ in found] + [rejected for _, rejected in found])
        return {
            "model": {**model_inputs(layout, self.way), **self._images(pairs)},
            "segments": layout.segments,
            "chosen_tokens": layout.chosen_tokens,
            "reference": reference,
            "pairs": [pair.id for pair in pairs],
            "tokens": layout.tokens,
        }

    def tokens(self, pair: Pair) -> PairTokens:
        """Return a pair's tokens. Raises PrefmillError for an answer without any."""
        if pair.id not in self._tokens:
            size, system = self._sizes[pair.image_id], self.job.config.system_prompt
            self._tokens[pair.id] = split(self.job.collator, pair, size, system)
        return self._tokens[pair.id]

    def image_tokens(self, image_id: str) -> int:
        """Return how many of the tokens of an image are replaced by its features."""
        return self.job.collator.image_ids(self._sizes[image_id]).count(self.job.collator.image_token_id)

    def image_inputs(self, image_ids: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return what the scorer reads of images: pixel_values and what belongs to them (IMAGE_INPUTS)."""
        processor = self.job.collator.processor
        made = processor(
            images=[[self.job.images.load(image_id)] for image_id in image_ids],
            text=[processor.image_token] * len(image_ids),
            return_tensors="pt",
            padding=True,
        )
        made["image_tokens"] = (made["input_ids"] == self.job.collator.image_token_id).sum(1)
        return {name: value for name, value in made.items() if name in IMAGE_INPUTS}

    def key(self, pair: Pair) -> str:
        """Return the digest of what a model sees of a pair: its tokens and its image."""
        if pair.id not in self._keys:
            seen = json.dumps([pair.image_id, *vars(self.tokens(pair)).values()])
            self._keys[pair.id] = hashlib.sha256(seen.encode()).hexdigest()[:32]
        return self._keys[pair.id]

    def _prefixes(self, pairs: Sequence[Pair]) -> list[torch.Tensor] | None:
        if self.positions is None:
            return None
        grids = [self.job.collator.image_grid(self._sizes[pair.image_id]) for pair in pairs]
        return [self.positions(self.tokens(pair).prefix, grid) for pair, grid in zip(pairs, grids, strict=True)]

    def _images(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        if self.vision is None:
            return self.image_inputs([pair.image_id for pair in pairs])
        features = [self.vision.get(pair.image_id) for pair in pairs]
        for pair, feature in zip(pairs, features, strict=True):
            if len(feature) != self.image_tokens(pair.image_id):
                raise PrefmillError(
                    f"the cached features of image {pair.image_id} are {len(feature)} and not "
                    f"{self.image_tokens(pair.image_id)} tokens",
                    f"remove {self.vision.folder}; the same command makes it again",
                )
        return {"image_features": features}
