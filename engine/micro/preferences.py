"""The image reward's training set: pictures of training scenes, good and bad, and what the oracle prefers of them.

Half of the groups are four drawings of the generator for one prompt, at the guidance scales that it will be used
with, or morphs of near misses; half are renders of a scene and of near misses of it, roughened. Prompts are mostly the
ones that were asked, sometimes the scene that one of the four pictures shows: then a picture that was wrong is the
right one, and no picture is good or bad by its looks alone. No dev or test combination comes in, neither asked nor
shown.
"""

from dataclasses import dataclass

import numpy as np
import torch

from .language import caption
from .perturb import perturb
from .render import render_all
from .selection import Candidates
from .truth import alignment, cell_labels, ground_labels, word_truth
from .world import Scene, sample_scenes

GROUP = 4
TEXT_LENGTH = 24
_SHOWN_PROMPTS = 0.3
_NEAR_PROMPTS = 0.1


@dataclass(frozen=True)
class PreferenceBatch:
    """G groups of 4 images, each group with one prompt; B = 4 G.

    images uint8 [B, 32, 32, 3]; prompts B; alignment [G, 4]; words [B, 24]; cells [B, 4, 2]; grounds [B].
    """

    images: np.ndarray
    prompts: list[str]
    alignment: torch.Tensor
    words: torch.Tensor
    cells: torch.Tensor
    grounds: torch.Tensor


class PreferenceStream:
    """Endless batches of groups."""

    def __init__(self, candidates: Candidates, seed: int) -> None:
        self.candidates = candidates
        self.random = np.random.default_rng([seed, 2])
        self.scenes = sample_scenes("train", 6000, seed + 5, distinct=False)

    def batch(self, groups: int) -> PreferenceBatch:
        """Half drawn by the generator, half rendered."""
        drawn = [self._drawn() for _ in range(groups // 2)]
        rendered = [self._rendered() for _ in range(groups - groups // 2)]
        all_groups = drawn + rendered
        shown = [scene for _, scenes, _ in all_groups for scene in scenes]
        asked = [scene for scene, _, _ in all_groups for _ in range(GROUP)]
        grades = [alignment(wanted, seen) for wanted, seen in zip(asked, shown, strict=True)]
        words = [word_truth(wanted, seen, TEXT_LENGTH) for wanted, seen in zip(asked, shown, strict=True)]
        return PreferenceBatch(
            np.concatenate([images for _, _, images in all_groups]),
            [caption(scene) for scene in asked],
            torch.tensor(grades).view(-1, GROUP),
            torch.from_numpy(np.stack(words)),
            cell_labels(shown),
            ground_labels(shown),
        )

    def _drawn(self) -> tuple[Scene, list[Scene], np.ndarray]:
        row = int(self.random.integers(len(self.candidates.scenes)))
        shown = self.candidates.shown[row]
        asked = self.candidates.scenes[row]
        choice = self.random.random()
        if choice < _SHOWN_PROMPTS:
            asked = self._legible(shown[int(self.random.integers(GROUP))]) or asked
        elif choice < _SHOWN_PROMPTS + _NEAR_PROMPTS:
            asked = self._legible(perturb(asked, self.random)) or asked
        return asked, shown, self.candidates.images[row]

    def _rendered(self) -> tuple[Scene, list[Scene], np.ndarray]:
        scene = self.scenes[int(self.random.integers(len(self.scenes)))]
        shown = [scene]
        while len(shown) < GROUP:
            near = perturb(scene, self.random)
            if near.split == "train":
                shown.append(near)
        images = render_all(shown, int(self.random.integers(2**31)))
        return scene, shown, roughen(images, self.random)

    def _legible(self, scene: Scene) -> Scene | None:
        """The scene, where it can be asked for in training."""
        fit = 0 < len(scene.items) <= 3 and len(scene.kinds) == len(scene.items) and scene.split == "train"
        return scene if fit else None


def of_training_only(candidates: Candidates) -> Candidates:
    """The candidates without the prompts for which some picture shows a dev or test combination."""
    keep = [
        number
        for number, shown in enumerate(candidates.shown)
        if all(not scene.items or scene.split == "train" for scene in shown)
    ]
    return candidates.subset(keep)


def roughen(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Renders uint8 [N, 32, 32, 3] made less clean, as generated pictures are: softened, mottled and noisy."""
    pixels = images.astype(np.float32)
    count = len(pixels)
    softness = random.uniform(0, 0.35, (count, 1, 1, 1)).astype(np.float32)
    for axis in (1, 2):
        neighbours = (np.roll(pixels, 1, axis) + np.roll(pixels, -1, axis)) / 2
        pixels = (1 - softness) * pixels + softness * neighbours
    coarse = random.normal(0, 1, (count, 8, 8, 3)).astype(np.float32).repeat(4, 1).repeat(4, 2)
    fine = random.normal(0, 1, pixels.shape).astype(np.float32)
    strength = random.uniform(0, 14, (2, count, 1, 1, 1)).astype(np.float32)
    return (pixels + strength[0] * coarse + strength[1] * fine).round().clip(0, 255).astype(np.uint8)
