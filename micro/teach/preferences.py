"""The image reward's training set: pictures of training scenes, good and bad, and what the oracle prefers of them.

Groups of four pictures: the generator's drawings for one prompt, at the guidance scales that it will be used with;
morphs of near misses; and roughened renders of a scene and of near misses of it. A group is asked for with the prompt
it was made for, with the scene that one of its pictures shows, or with a near miss of that: so a picture that was wrong
is at times the right one, and no picture is good or bad by its looks alone. No dev or test combination comes in,
neither asked nor shown.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..world.candidates import Candidates
from ..world.language import caption
from ..world.perturb import perturb
from ..world.render import render_all
from ..world.scenes import Scene, Split, sample_scenes
from ..world.truth import alignment, seen_there, word_truth

GROUP = 4
TEXT_LENGTH = 24
_SHOWN_PROMPTS = 0.4
_NEAR_PROMPTS = 0.25


@dataclass(frozen=True)
class PreferenceBatch:
    """G groups of 4 images, each group with one prompt; B = 4 G.

    rows [B] into the stream's images; prompts B; alignment [G, 4]; words [B, 24]; seen [B, 2, 24] (see `seen_there`).
    """

    rows: torch.Tensor
    prompts: list[str]
    alignment: torch.Tensor
    words: torch.Tensor
    seen: torch.Tensor


class PreferenceStream:
    """Endless batches of groups out of a pool. `images` uint8 [N, 32, 32, 3] show the N scenes `shown`."""

    def __init__(self, candidates: Candidates, seed: int) -> None:
        self.asked = candidates.scenes
        self.shown = [scene for group in candidates.shown for scene in group]
        self.images = candidates.images.reshape(-1, *candidates.images.shape[2:])
        self.random = np.random.default_rng([seed, 2])

    def batch(self, groups: int) -> PreferenceBatch:
        """Groups drawn from the pool, each with a prompt."""
        numbers = self.random.integers(len(self.asked), size=groups)
        rows = (numbers[:, None] * GROUP + np.arange(GROUP)).flatten()
        asked = [scene for number in numbers.tolist() for scene in [self.prompt_of(number)] * GROUP]
        shown = [self.shown[row] for row in rows.tolist()]
        grades = [alignment(wanted, seen) for wanted, seen in zip(asked, shown, strict=True)]
        words = [word_truth(wanted, seen, TEXT_LENGTH) for wanted, seen in zip(asked, shown, strict=True)]
        seen = [seen_there(wanted, picture, TEXT_LENGTH) for wanted, picture in zip(asked, shown, strict=True)]
        return PreferenceBatch(
            torch.from_numpy(rows),
            [caption(scene) for scene in asked],
            torch.tensor(grades).view(-1, GROUP),
            torch.from_numpy(np.stack(words)),
            torch.from_numpy(np.stack(seen)),
        )

    def prompt_of(self, number: int) -> Scene:
        """What a group is asked for this time."""
        asked, choice = self.asked[number], self.random.random()
        if choice >= _SHOWN_PROMPTS + _NEAR_PROMPTS:
            return asked
        shown = self.shown[number * GROUP + int(self.random.integers(GROUP))]
        if not _legible(shown):
            return asked
        if choice < _SHOWN_PROMPTS:
            return shown
        near = perturb(shown, self.random)
        return near if _legible(near) else asked


def rendered_candidates(groups: int, seed: int, split: Split = "train") -> Candidates:
    """Groups of a scene's render and those of three near misses, all of one split, roughened."""
    random = np.random.default_rng([seed, 4])
    scenes = sample_scenes(split, groups, seed + 5)
    shown = []
    for scene in scenes:
        group = [scene]
        while len(group) < GROUP:
            near = perturb(scene, random)
            if near.split == split:
                group.append(near)
        shown.append(group)
    flat = [scene for group in shown for scene in group]
    images = roughen(render_all(flat, int(random.integers(2**31))), random)
    grades = np.array([[alignment(scene, seen) for seen in group] for scene, group in zip(scenes, shown, strict=True)])
    return Candidates(
        scenes, images.reshape(groups, GROUP, *images.shape[1:]), shown, grades == 1, grades, np.zeros_like(grades)
    )


def _legible(scene: Scene) -> bool:
    """Whether a scene can be asked for in training."""
    return 0 < len(scene.items) <= 3 and len(scene.kinds) == len(scene.items) and scene.split == "train"


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
