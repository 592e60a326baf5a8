"""What images are worth to a generator's training: any scorer, or a mixture, with and without gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...base.errors import PrefmillError
from ...engine.scorers.interface import ImageScorer, ImageScores


class Reward:
    """A loaded scorer. Called with float images [B, 3, H, W] in 0 to 1 and their prompts, it scores them."""

    def __init__(self, scorer: ImageScorer) -> None:
        self.scorer = scorer

    def __call__(self, images: torch.Tensor, prompts: Sequence[str]) -> ImageScores:
        """Scores without gradients, rounded to 8 bits first, as images are when they are stored."""
        return self.scorer.score(self.scorer.preprocess(images * 2 - 1), prompts)

    def with_gradient(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Scores [B], float32, with a gradient by the images. Raises PrefmillError for a scorer that has none."""
        values = self.scorer.differentiable_scores(images * 2 - 1, prompts)
        if not values.requires_grad:
            raise PrefmillError(
                f"no gradient of {self.scorer.key} reaches the image: {self.scorer.execution.backend} runs it.",
                "set backend=eager, or another method",
            )
        return values


def diversity(images: torch.Tensor) -> float:
    """How far images [G, 3, H, W] of one prompt are from each other: root mean square of a value, mean over pairs.

    In pixels, so that no network that a reward may have learnt to please has a say: a generator that draws one picture
    for a prompt, whatever the noise, is at 0.
    """
    flat = images.flatten(1).double()
    apart = torch.pdist(flat) / flat.shape[1] ** 0.5
    return float(apart.mean())
