"""The pictures that responders are taught on: renders, most of them spoiled, and what a generator makes.

They will be asked about a generator's drawings, which are softer and noisier than renders. One that has seen none of
them misreads a fifth of those that came out as asked, however true its answers about renders are. So the policy sees
some, with what the oracle reads in them: what it says wrongly shall be what it was taught to say.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from ..world.candidates import Candidates, draw_candidates, open_generator
from ..world.scenes import Scene, sample_scenes
from .morphs import morph_candidates
from .preferences import of_training_only
from .training import SceneStream, reproducible, to_model_range

DRAWN, MORPHED = 500, 3000
"""Prompts with four pictures each."""
GUIDANCE = (3.0, 5.0, 5.0, 7.0)
MADE_SHARE = 0.5
"""Of a batch, the pictures that the generator or its decoder made."""
_SPOILED_SHARE = 0.6
_SEED = 500


def made_pictures(generator: Path, seed: int) -> Candidates:
    """The generator's drawings of training prompts, and mixtures that its autoencoder decodes."""
    model = open_generator(generator)
    with reproducible(seed + _SEED):
        scenes = sample_scenes("train", DRAWN + MORPHED, seed + _SEED)
        drawn = draw_candidates(model, scenes[:DRAWN], seed + _SEED, guidance=GUIDANCE)
        mixed = morph_candidates(model.autoencoder, scenes[DRAWN:], seed + _SEED)
    return of_training_only(drawn + mixed)


class RenderStream(SceneStream):
    """Endless batches of renders, and what a responder gets to see of them."""

    def seen(self, images: torch.Tensor) -> torch.Tensor:
        """A batch's images as they are looked at: spoiled."""
        return spoil(images, self.random)


class PictureStream(RenderStream):
    """The same, half of them pictures that a generator made, whose scenes the oracle has read."""

    def __init__(self, seed: int, made: Candidates) -> None:
        super().__init__(seed)
        images = made.images.reshape(-1, *made.images.shape[2:])
        shown = [scene for scenes in made.shown for scene in scenes]
        read = [(scene, image) for scene, image in zip(shown, images, strict=True) if scene.items]
        self.shown = [scene for scene, _ in read]
        self.made = to_model_range(np.stack([image for _, image in read]))

    def batch(self, count: int) -> tuple[list[Scene], torch.Tensor]:
        """Scenes and pictures that show them, float32 [count, 3, 32, 32] in -1 to 1."""
        rows = self.random.integers(len(self.shown), size=round(MADE_SHARE * count)).tolist()
        scenes, rendered = super().batch(count - len(rows))
        return [*scenes, *(self.shown[row] for row in rows)], torch.cat([spoil(rendered, self.random), self.made[rows]])

    def seen(self, images: torch.Tensor) -> torch.Tensor:
        """As they are: renders are spoiled already, and what a generator makes is rough enough."""
        return images


def spoil(images: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Blur, noise, weaker contrast and shifted colours, each image its own; float [B, 3, H, W] in -1 to 1."""
    count = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(random.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))

    chosen = torch.from_numpy(random.random((count, 1, 1, 1)) < _SPOILED_SHARE)
    soft = uniform(0, 1)
    changed = images + soft * (_blurred(images) - images)
    noise = torch.from_numpy(random.standard_normal(tuple(images.shape)).astype(np.float32))
    smooth = functional.interpolate(noise[..., ::4, ::4], scale_factor=4, mode="bilinear")
    tint = torch.from_numpy(random.normal(0, 0.06, (count, 3, 1, 1)).astype(np.float32))
    changed = changed * uniform(0.85, 1.05) + tint + uniform(0, 0.2) * noise + uniform(0, 0.3) * smooth
    return torch.where(chosen, changed.clamp(-1, 1), images)


def _blurred(images: torch.Tensor) -> torch.Tensor:
    row = torch.tensor([0.1, 0.24, 0.32, 0.24, 0.1])
    kernel = torch.outer(row, row).expand(3, 1, 5, 5)
    return functional.conv2d(functional.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
