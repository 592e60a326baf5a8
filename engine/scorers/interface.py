"""What all scorers of images share: the interface, the checks, and the original ImageReward package's way to call it.

A scorer turns pictures into pixels on the host (`preprocess`) and pixels and prompts into scores on the device
(`score`), so that a pipeline can do the first in worker threads while the second runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from PIL import Image

from ...base.errors import PrefmillError
from ..device import Execution
from ..image_inputs import ImagePreprocessing
from ..images import decode_image
from ..runner import Runner
from ..settings import EngineSettings


@dataclass(frozen=True)
class ImageScores:
    """`values` [B], float32 on the CPU; `truncated[i]` tells that the scorer did not see all of prompt i.

    `parts` are those of a mixture's scorers, or of one scorer's aspects, by name; empty where there are none.
    """

    values: torch.Tensor
    truncated: list[bool]
    parts: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """The images of one prompt: `ranks[i]` is 1 for the best; equal scores share no rank, the earlier image wins."""

    ranks: list[int]
    scores: list[float]


class ImageScorer:
    """A loaded scorer of images against prompts. `key` names its weights by content."""

    key: str
    inputs: ImagePreprocessing
    runner: Runner
    """What runs its network, or the image tower of two."""
    aspects: tuple[str, ...] = ()
    """What it rates beside the score, by heads of their own."""

    @classmethod
    def from_pretrained(cls, source: str, settings: EngineSettings | None = None) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        raise NotImplementedError

    @property
    def execution(self) -> Execution:
        """How the network really runs."""
        return self.runner.execution

    @property
    def runners(self) -> tuple[Runner, ...]:
        """Everything that runs a network of it."""
        return (self.runner,)

    @property
    def image_size(self) -> int:
        """The side in pixels of what the image tower reads."""
        return self.inputs.size

    def preprocess(self, images: Sequence[Image.Image] | torch.Tensor) -> torch.Tensor:
        """RGB images, or decoded ones [B, 3, H, W] (uint8, or float in -1 to 1), to pixels [B, 3, S, S].

        Images are host work, safe in a worker thread; tensors stay on their device. Raises PrefmillError without
        images and for other tensors.
        """
        return self.inputs.decoded_pixels(images) if isinstance(images, torch.Tensor) else self.inputs.pixels(images)

    def score(self, pixels: torch.Tensor, prompts: Sequence[str]) -> ImageScores:
        """Score pixels [B, 3, S, S] against B prompts.

        A row whose pixels are not finite scores NaN, as one does that overflows; the others are not touched. Raises
        PrefmillError for unequal counts and pixels of another shape.
        """
        if len(pixels) != len(prompts):
            raise PrefmillError(f"{len(pixels)} images came with {len(prompts)} prompts.", "give one prompt per image")
        if not prompts:
            return ImageScores(torch.empty(0), [])
        self._check(pixels)
        with torch.inference_mode():
            broken = ~pixels.isfinite().flatten(1).all(1)
            values, truncated = self.score_pixels(pixels, prompts)
            table = values.float().view(len(prompts), -1).masked_fill(broken.to(values.device)[:, None], math.nan).cpu()
        return ImageScores(table[:, 0], truncated, dict(zip(self.aspects, table[:, 1:].T, strict=True)))

    def differentiable_scores(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Scores [B], float32, of images [B, 3, H, W] in -1 to 1, with a gradient by the images.

        Nothing is rounded to 8 bits, so a score is that of `score` to within such a rounding. An engine that runs the
        network gives none.
        """
        return self.score_pixels(self.inputs.differentiable_pixels(images), prompts)[0].float()

    def rank(self, prompt: str, images: Sequence[Image.Image | str | Path]) -> Ranking:
        """Rank images, or files of images, for one prompt; what scores NaN comes last.

        Raises PrefmillError for bad files.
        """
        pictures = [image if isinstance(image, Image.Image) else _read(Path(image)) for image in images]
        if not pictures:
            return Ranking([], [])
        scores = self.score(self.preprocess(pictures), [prompt] * len(pictures)).values
        order = torch.sort(scores.nan_to_num(-math.inf), descending=True, stable=True).indices
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(1, len(order) + 1)
        return Ranking(ranks.tolist(), scores.tolist())

    def inference_rank(
        self, prompt: str, generations_list: Sequence[Image.Image | str | Path]
    ) -> tuple[list[int] | int, list[float] | float]:
        """`rank` under the name, the argument names and the result of the image-reward package.

        Ranks and rewards as two lists; as two numbers for a single image, which is what the package returns.
        """
        ranking = self.rank(prompt, generations_list)
        if len(ranking.ranks) == 1:
            return ranking.ranks[0], ranking.scores[0]
        return ranking.ranks, ranking.scores

    def score_pixels(self, pixels: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, list[bool]]:
        """Scores [B] and which prompts were cut: what a scorer overrides. The arguments are checked before.

        A scorer with `aspects` gives [B, 1 + aspects], the score first.
        """
        raise NotImplementedError

    def _check(self, pixels: torch.Tensor) -> None:
        size = self.image_size
        if pixels.shape[1:] != (3, size, size):
            raise PrefmillError(
                f"pixels are {list(pixels.shape)}, not [{len(pixels)}, 3, {size}, {size}].", "call preprocess first"
            )


def _read(path: Path) -> Image.Image:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PrefmillError(f"image {path} cannot be read: {error.strerror}.", "check the path") from error
    return decode_image(data)
