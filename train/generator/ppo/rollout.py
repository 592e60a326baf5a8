"""Rollouts: groups of images of one prompt, drawn with noise in a window of steps, and the steps that are to be trained.

A group is drawn in batches of its own rows, and trained in the same ones. So nothing of it depends on the other groups,
on how many processes share them, or on where they lie; and a step that nothing has been learnt from yet has, in
float32 on a CPU, the very log-probability that it was drawn with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ....engine.scorers.interface import ImageScores
from ....engine.sd3.denoise import Stochastic
from ....engine.sd3.text_to_image import TextToImage
from ....pipeline.records import content_id, seed_for
from .objective import Noise, Transitions

Reward = Callable[[torch.Tensor, Sequence[str]], ImageScores]
"""Scores decoded images, float [B, 3, H, W] in 0 to 1, against their prompts."""


@dataclass(frozen=True)
class Group:
    """`size` images of one prompt at one guidance scale, from the same starting noise or each from its own.

    All their numbers follow from `key`, which is made of the training's seed, the rollout's number and the prompt.
    """

    key: str
    prompt: str
    guidance: float
    size: int
    same_start: bool

    @property
    def seeds(self) -> list[int]:
        """Of the starting latents."""
        return [seed_for(self.key, "start", 0 if self.same_start else row) for row in range(self.size)]

    @property
    def noise_seeds(self) -> list[int]:
        """Of the noise that the steps add: others, as equal ones would draw the starting latents again."""
        return [seed_for(self.key, "noise", row) for row in range(self.size)]


@dataclass(frozen=True)
class Sampler:
    """How rollouts are drawn: a schedule, a size in pixels, the stochastic steps, and `batch` rows at a time."""

    steps: int
    width: int
    height: int
    window: range
    noise_level: float
    batch: int


@dataclass(frozen=True)
class Drawn:
    """A group that was drawn: its rewards, its transitions by batch of rows and step, and how its images differ."""

    group: Group
    rewards: ImageScores
    transitions: list[list[Transitions]]
    noise: Noise
    diversity: float


def group_of(
    seed: int, rollout: int, prompt_id: str, prompt: str, *, guidance: float, size: int, same_start: bool
) -> Group:
    """The group of a prompt in a rollout: the same wherever and whenever it is drawn."""
    return Group(content_id("rollout", seed, rollout, prompt_id), prompt, guidance, size, same_start)


@torch.no_grad()
def draw(engine: TextToImage, group: Group, sampler: Sampler, reward: Reward) -> Drawn:
    """Draw a group and score it. Not in inference mode: gradients will pass what is kept."""
    seeds, noise_seeds = group.seeds, group.noise_seeds
    images: list[torch.Tensor] = []
    transitions: list[list[Transitions]] = []
    first_level = 0.0
    for start in range(0, group.size, sampler.batch):
        rows = slice(start, start + sampler.batch)
        count = len(seeds[rows])
        drawing = engine.denoise(
            [group.prompt] * count,
            [group.guidance] * count,
            seeds[rows],
            steps=sampler.steps,
            width=sampler.width,
            height=sampler.height,
            sampler=Stochastic(noise_seeds[rows], sampler.noise_level, window=sampler.window),
        )
        levels, times = drawing.schedule.levels, drawing.schedule.times
        first_level = float(levels[1])
        kept: list[Transitions] = []
        latents = torch.empty(0)
        for number, state in enumerate(drawing):
            latents = state.latents
            if state.logp is None:
                continue
            rates = (levels[number], levels[number + 1], times[number], torch.tensor(max(group.guidance, 1.0)))
            level, following, time, guidance = (rate.expand(count).to(latents.device) for rate in rates)
            kept.append(Transitions(state.before, latents, level, following, time, guidance, state.logp))
        transitions.append(kept)
        images.append(engine.decode(latents))
    pictures = torch.cat(images)
    scores = reward(pictures, [group.prompt] * group.size)
    return Drawn(group, scores, transitions, Noise(sampler.noise_level, first_level), diversity(pictures))


def diversity(images: torch.Tensor) -> float:
    """How far a group's images [B, 3, H, W] are from each other: root mean square of a value, mean over pairs."""
    flat = images.flatten(1).double()
    apart = torch.pdist(flat) / flat.shape[1] ** 0.5
    return float(apart.mean())
