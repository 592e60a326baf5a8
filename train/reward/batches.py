"""Prompts to what the network takes: every image once, with its prompt's tokens, and the pairs as rows of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ...engine.image_inputs import ImagePreprocessing
from ...engine.scorers.image_reward import MAX_TEXT_TOKENS
from ...engine.text import tokenize_prompts
from ..data import RunImages
from ..preference.cache import VisionCache
from .data import ComparedPrompt
from .objective import Comparisons


class ComparedPrompts(torch.utils.data.Dataset[ComparedPrompt]):
    """The prompts in their order."""

    def __init__(self, prompts: Sequence[ComparedPrompt]) -> None:
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, row: int) -> ComparedPrompt:
        return self.prompts[row]


class RewardBatches:
    """A collator. Features come from `cache` where there is one; else the batch has pixels."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        images: RunImages,
        inputs: ImagePreprocessing,
        aspects: Sequence[str],
        *,
        per_aspect: bool = False,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.tokenizer, self.images, self.inputs = tokenizer, images, inputs
        self.aspects, self.per_aspect, self.weights = tuple(aspects), per_aspect, weights
        self.cache: VisionCache | None = None

    def __call__(self, prompts: Sequence[ComparedPrompt]) -> dict[str, Any]:
        """Return `counts` [G], `model` (features or pixels, tokens, mask; one row per image) and `pairs` [P] each."""
        owners = [number for number, prompt in enumerate(prompts) for _ in prompt.images]
        tokens, mask, _ = tokenize_prompts(self.tokenizer, [prompt.text for prompt in prompts], MAX_TEXT_TOKENS)
        named = [image for prompt in prompts for image in prompt.images]
        inputs = {"features": self.features(named)} if self.cache else {"pixels": self.pixels(named)}
        return {
            "counts": torch.tensor([len(prompt.preferences) for prompt in prompts]),
            "model": inputs | {"tokens": tokens[owners], "mask": mask[owners]},
            "pairs": self._pairs(prompts),
            "ids": [preference.id for prompt in prompts for preference in prompt.preferences],
            "images": named,
        }

    def pixels(self, images: Sequence[str]) -> torch.Tensor:
        """Pixels [B, 3, S, S] of images by id."""
        return self.inputs.pixels([self.images.load(image) for image in images])

    def features(self, images: Sequence[str]) -> torch.Tensor:
        """Cached features [B, ...] of images by id."""
        assert self.cache is not None
        return torch.stack([self.cache.get(image) for image in images])

    def _pairs(self, prompts: Sequence[ComparedPrompt]) -> Comparisons:
        rows: list[tuple[int, int, int, float, int, int]] = []
        first = 0
        for number, prompt in enumerate(prompts):
            places = {image: first + place for place, image in enumerate(prompt.images)}
            first += len(places)
            for one in prompt.preferences:
                aspect = self.aspects.index(one.aspect)
                weight = self.weights[one.id] if self.weights else 1.0
                sides = places[one.chosen_id], places[one.rejected_id]
                rows.append((*sides, aspect if self.per_aspect else 0, weight, number, aspect))
        chosen, rejected, head, weight, prompt_rows, aspects = zip(*rows, strict=True)
        return Comparisons(*map(torch.tensor, (chosen, rejected, head, weight, prompt_rows, aspects)))
