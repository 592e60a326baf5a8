"""Several scorers of images as one: the weighted sum of their scores, with every part's own beside it.

The sum is of the scores as they are. Each scorer has its own unit (`IMAGE_SCORERS` says which: cosines of CLIP differ
by hundredths between two images of a prompt, where ImageReward differs by one), and what a unit is worth is what its
weight says. To standardise would take the other images, and an image's score must not depend on those. A run measures
how far each part pulls the sum, from which weights can be chosen.

Every part reads an image in its own way, so pixels are flat here: [B, N], the parts' one after the other.
"""

from collections.abc import Mapping, Sequence

import torch
from PIL import Image

from ...base.errors import PrefmillError
from ..runner import Runner
from .interface import ImageScorer, ImageScores


class MixtureScorer(ImageScorer):
    """Loaded scorers by name, with their weights; `key` names the weights of all that take part."""

    def __init__(self, parts: Mapping[str, ImageScorer], weights: Mapping[str, float]) -> None:
        self.parts, self.weights = dict(parts), {name: weights[name] for name in parts}
        self.key = "+".join(f"{self.weights[name]:g}*{scorer.key}" for name, scorer in parts.items())
        first = next(iter(parts.values()))
        self.inputs, self.runner = first.inputs, first.runner
        self.widths = [3 * scorer.image_size**2 for scorer in parts.values()]

    @property
    def runners(self) -> tuple[Runner, ...]:
        return tuple(runner for scorer in self.parts.values() for runner in scorer.runners)

    def preprocess(self, images: Sequence[Image.Image] | torch.Tensor) -> torch.Tensor:
        """Images as `ImageScorer.preprocess` takes them, to flat pixels [B, N] of all parts."""
        return torch.cat([scorer.preprocess(images).flatten(1) for scorer in self.parts.values()], dim=1)

    def score(self, pixels: torch.Tensor, prompts: Sequence[str]) -> ImageScores:
        """Score flat pixels [B, N] against B prompts; a row that one part scores NaN is NaN.

        Raises PrefmillError for unequal counts and pixels of another width.
        """
        if pixels.shape[1:] != (sum(self.widths),):
            raise PrefmillError(
                f"pixels are {list(pixels.shape)}, not [{len(pixels)}, {sum(self.widths)}].", "call preprocess first"
            )
        values, truncated, parts = torch.zeros(len(prompts)), [False] * len(prompts), dict[str, torch.Tensor]()
        for (name, scorer), own in zip(self.parts.items(), pixels.split(self.widths, dim=1), strict=True):
            side = scorer.image_size
            scores = scorer.score(own.unflatten(1, (3, side, side)).contiguous(), prompts)
            values += self.weights[name] * scores.values
            truncated = [before or now for before, now in zip(truncated, scores.truncated, strict=True)]
            parts[name] = scores.values
        return ImageScores(values, truncated, parts)

    def differentiable_scores(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """The weighted sum of the parts' scores [B], with a gradient by the images."""
        scores = [self.weights[name] * part.differentiable_scores(images, prompts) for name, part in self.parts.items()]
        return torch.stack(scores).sum(0)
