"""Corrupted images, one per pair: with them the chosen answer shall be less likely than with the image (mDPO).

A pair's is drawn from its id and the training's seed. It is the same in every epoch, so that its features and the
reference's log-probability are computed once, and it has the image's width and height, so that it takes as many tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...base.errors import PrefmillError
from ...pipeline.records import Pair, content_id, seed_for
from ..settings import ImageNegative

if TYPE_CHECKING:
    from ..data import RunImages

_VERSION = 1
"""Part of the names; to be raised when other pixels come out."""
_LARGEST_CROP = 0.2
_NOISE_STEP = 500
_CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_CLIP_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


class ImageNegatives:
    """The corrupted images of pairs, by a name that is another one for other pixels.

    `trained`: the pairs whose images may stand in for another's; `held_out`: further pairs that have a negative.
    """

    def __init__(
        self, kind: ImageNegative, seed: int, images: RunImages, trained: Sequence[Pair], held_out: Sequence[Pair] = ()
    ) -> None:
        self.kind, self.seed, self.images = kind, seed, images
        self._sizes = images.sizes()
        self._others: dict[str, str] = {}
        if kind == "other":
            self._others = _others(images.prompts(), [pair.image_id for pair in trained], [*trained, *held_out], seed)
        self._names = {pair.id: self._name(pair) for pair in [*trained, *held_out]}
        self._pairs = {self._names[pair.id]: pair for pair in [*trained, *held_out]}

    def name(self, pair: Pair) -> str:
        """Return the name of a pair's corrupted image: an image id where it is just another image of the run."""
        return self._names[pair.id]

    def __contains__(self, name: str) -> bool:
        return name in self._pairs and name not in self._sizes

    def size(self, name: str) -> tuple[int, int]:
        """Return width and height, which are those of the pair's image."""
        return self._sizes[self._pairs[name].image_id]

    def load(self, name: str) -> Image.Image:
        """Make a corrupted image. Raises PrefmillError for an image that cannot be read."""
        pair = self._pairs[name]
        if self.kind == "other":
            return self.images.load(self._others[pair.id]).resize(self.size(name), Image.Resampling.BICUBIC)
        change: Callable[[Image.Image, np.random.Generator], Image.Image] = crop if self.kind == "crop" else add_noise
        return change(self.images.load(pair.image_id), np.random.default_rng(_seed(pair, self.seed)))

    def _name(self, pair: Pair) -> str:
        if self.kind == "other":
            other, size = self._others[pair.id], self._sizes[pair.image_id]
            return other if self._sizes[other] == size else content_id("image negative", _VERSION, other, *size)
        return content_id("image negative", _VERSION, self.kind, pair.image_id, pair.id, self.seed)


def crop(image: Image.Image, stream: np.random.Generator) -> Image.Image:
    """Return a random part of at most a fifth of the area, of the image's proportions, enlarged to its size."""
    side = float(np.sqrt(stream.uniform(0, _LARGEST_CROP)))
    width, height = (max(1, round(side * whole)) for whole in image.size)
    left, top = (int(stream.integers(room + 1)) for room in (image.width - width, image.height - height))
    return image.crop((left, top, left + width, top + height)).resize(image.size, Image.Resampling.BICUBIC)


def add_noise(image: Image.Image, stream: np.random.Generator) -> Image.Image:
    """Return an image after half of VCD's thousand steps of forward diffusion.

    It acts where VCD's does, on pixels of CLIP's mean and deviation; the result is an image again, of 8 bits.
    """
    steps = 1 / (1 + np.exp(-np.linspace(-6, 6, 1000))) * (0.5e-2 - 1e-5) + 1e-5
    kept = np.float32(np.cumprod(1 - steps)[_NOISE_STEP])
    pixels = (np.asarray(image, dtype=np.float32) / 255 - _CLIP_MEAN) / _CLIP_DEVIATION
    noise = stream.standard_normal(pixels.shape, dtype=np.float32)
    noisy = (np.sqrt(kept) * pixels + np.sqrt(1 - kept) * noise) * _CLIP_DEVIATION + _CLIP_MEAN
    return Image.fromarray((noisy * 255).round().clip(0, 255).astype(np.uint8))


def _others(prompts: dict[str, str], images: Sequence[str], pairs: Sequence[Pair], seed: int) -> dict[str, str]:
    """Return an image of another prompt for every pair, by the pair's id."""
    pool = sorted(set(images))
    others = {}
    for pair in pairs:
        own = prompts[pair.image_id]
        order = np.random.default_rng(_seed(pair, seed)).permutation(len(pool))
        found = next((pool[place] for place in order if prompts[pool[place]] != own), None)
        if found is None:
            raise PrefmillError(
                f"image_negative=other needs images of two prompts, and those of {len(pairs)} pairs are all of one",
                "set image_negative=crop",
            )
        others[pair.id] = found
    return others


def _seed(pair: Pair, seed: int) -> int:
    return seed_for(pair.id, "image negative", seed)
