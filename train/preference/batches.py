"""From pairs to what the trainer feeds its model: a layout, the images' features, the reference's log-probabilities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...base.errors import PrefmillError
from ...kernels.preference import check_segments
from ...pipeline.records import Pair
from ..job import TrainingJob
from .attention import AttentionWay
from .cache import ReferenceCache, VisionCache
from .layout import PairTokens, lay_out, split
from .negatives import ImageNegatives
from .positions import PrefixPositions
from .scorer import IMAGE_INPUTS, model_inputs
from .weights import margin_weights

if TYPE_CHECKING:
    from PIL import Image


class PairBatches:
    """The trainer's collator. Reads caches where they are set, and images where they are not."""

    def __init__(self, job: TrainingJob, way: AttentionWay, positions: PrefixPositions | None = None) -> None:
        self.job = job
        self.positions = positions
        self.way: AttentionWay = way
        self.packed = way != "mask"
        self.vision: VisionCache | None = None
        self.reference: ReferenceCache | None = None
        self.negatives: ImageNegatives | None = None
        self.weights: dict[str, float] | None = None
        if job.config.image_weight:
            kind, seed = job.config.image_negative, job.config.seed
            self.negatives = ImageNegatives(kind, seed, job.images, job.pairs, job.held_out)
        if job.config.margin_weight != "none":
            self.weights = margin_weights(job.pairs, job.held_out)
        self._sizes = job.images.sizes()
        tokenizer = job.collator.tokenizer
        self._pad: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._tokens: dict[str, PairTokens] = {}
        self._keys: dict[str, list[str]] = {}

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Return a batch.

        `model`: the scorer's keyword arguments; segments, chosen_tokens: see Layout; reference [2B] or None; weights
        [B] or None; `pairs`: their ids; `tokens`: how many are read, `branch_tokens` of them with corrupted images,
        where B more log-probabilities of the reference follow.
        """
        tokens = [self.tokens(pair) for pair in pairs]
        branches = [one.branch for one in tokens] if self.negatives else []
        prefixes = self._prefixes(pairs, 2 if self.negatives else 1)
        layout = lay_out(tokens, self._pad, packed=self.packed, branches=branches, prefixes=prefixes)
        # here, because on a GPU the loss does not look
        check_segments(layout.segments, (3 if self.negatives else 2) * len(pairs))
        reference = weights = None
        if self.reference:
            found = [[self.reference.get(key) for key in self.keys(pair)] for pair in pairs]
            reference = torch.tensor([logp for block in zip(*found, strict=True) for logp in block])
        if self.weights:
            weights = torch.tensor([self.weights[pair.id] for pair in pairs])
        images = [pair.image_id for pair in pairs]
        if self.negatives:
            images += [self.negatives.name(pair) for pair in pairs]
        return {
            "model": {**model_inputs(layout, self.way), **self._images(images)},
            "segments": layout.segments,
            "chosen_tokens": layout.chosen_tokens,
            "reference": reference,
            "weights": weights,
            "pairs": [pair.id for pair in pairs],
            "tokens": layout.tokens,
            "branch_tokens": sum(sum(branch.spans) for branch in branches),
        }

    def tokens(self, pair: Pair) -> PairTokens:
        """Return a pair's tokens. Raises PrefmillError for an answer without any."""
        if pair.id not in self._tokens:
            size, system = self._sizes[pair.image_id], self.job.config.system_prompt
            self._tokens[pair.id] = split(self.job.collator, pair, size, system)
        return self._tokens[pair.id]

    def image_tokens(self, image_id: str) -> int:
        """Return how many of the tokens of an image are replaced by its features."""
        return self.job.collator.image_ids(self._size(image_id)).count(self.job.collator.image_token_id)

    def image_inputs(self, image_ids: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return what the scorer reads of images, corrupted ones too: pixel_values and what belongs to them."""
        processor = self.job.collator.processor
        made = processor(
            images=[[self.image(image_id)] for image_id in image_ids],
            text=[processor.image_token] * len(image_ids),
            return_tensors="pt",
            padding=True,
        )
        made["image_tokens"] = (made["input_ids"] == self.job.collator.image_token_id).sum(1)
        return {name: value for name, value in made.items() if name in IMAGE_INPUTS}

    def image(self, image_id: str) -> Image.Image:
        """Return an image, or make a corrupted one."""
        source = self.negatives if self.negatives and image_id in self.negatives else self.job.images
        return source.load(image_id)

    def keys(self, pair: Pair) -> list[str]:
        """Return the digests of what a model reads for each of a pair's log-probabilities.

        They are those of the chosen and the rejected answer and, where the pair has a corrupted image, of the chosen
        one with it.
        """
        if pair.id not in self._keys:
            tokens = self.tokens(pair)
            chosen, rejected = (tokens.chosen, tokens.chosen_skipped), (tokens.rejected, tokens.rejected_skipped)
            read = [(pair.image_id, *chosen), (pair.image_id, *rejected)]
            if self.negatives:
                read.append((self.negatives.name(pair), *chosen))
            # where the prompt ends is told by its length: what both answers share may end before it
            seen = [[image, [*tokens.prefix, *answer], len(tokens.prefix) + skipped] for image, answer, skipped in read]
            self._keys[pair.id] = [hashlib.sha256(json.dumps(one).encode()).hexdigest()[:32] for one in seen]
        return self._keys[pair.id]

    def _size(self, image_id: str) -> tuple[int, int]:
        corrupted = self.negatives if self.negatives and image_id in self.negatives else None
        return corrupted.size(image_id) if corrupted else self._sizes[image_id]

    def _prefixes(self, pairs: Sequence[Pair], times: int) -> list[torch.Tensor] | None:
        """Return the positions of the pairs' prompts, `times` over: a corrupted image has the image's size."""
        if self.positions is None:
            return None
        grids = [self.job.collator.image_grid(self._sizes[pair.image_id]) for pair in pairs]
        prefixes = [self.positions(self.tokens(pair).prefix, grid) for pair, grid in zip(pairs, grids, strict=True)]
        return prefixes * times

    def _images(self, image_ids: Sequence[str]) -> dict[str, Any]:
        if self.vision is None:
            return self.image_inputs(image_ids)
        features = [self.vision.get(image_id) for image_id in image_ids]
        for image_id, feature in zip(image_ids, features, strict=True):
            if len(feature) != self.image_tokens(image_id):
                raise PrefmillError(
                    f"the cached features of image {image_id} are {len(feature)} and not "
                    f"{self.image_tokens(image_id)} tokens",
                    f"remove {self.vision.folder}; the same command makes it again",
                )
        return {"image_features": features}
