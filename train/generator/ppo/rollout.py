"""Rollouts: groups of images of one prompt, drawn with noise in a window of steps, and the steps to be trained.

A group is drawn in batches of its own rows, and trained in the same ones. So nothing of it depends on the other groups,
on how many processes share them, or on where they lie; and a step that nothing has been learnt from yet has, in
float32 on a CPU, the very log-probability that it was drawn with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from ....engine.scorers.interface import ImageScores
from ....engine.sd3.denoise import Stochastic
from ....pipeline.records import Prompt, content_id, seed_for
from ..policy import Policy
from ..rewards import Reward, diversity
from .objective import Transitions


@dataclass(frozen=True)
class Sampler:
    """How groups are drawn: the stochastic steps, how much noise they add, and `batch` rows at a time."""

    window: range
    noise_level: float
    batch: int


@dataclass(frozen=True)
class Group:
    """`size` images of one prompt at one guidance scale, from the same starting noise or each from its own.

    All their noise follows from `key`.
    """

    key: str
    prompt: str
    guidance: float
    size: int
    same_start: bool

    @classmethod
    def of(cls, seed: int, rollout: int, prompt: Prompt, *, guidance: float, size: int, same_start: bool) -> Self:
        """A prompt's group in a rollout of the training with this seed: the same wherever it is drawn."""
        return cls(content_id("rollout", seed, rollout, prompt.id), prompt.text, guidance, size, same_start)

    @property
    def seeds(self) -> list[int]:
        """Of the starting latents."""
        return [seed_for(self.key, "start", 0 if self.same_start else row) for row in range(self.size)]

    @property
    def noise_seeds(self) -> list[int]:
        """Of the noise that the steps add: others, as equal ones would draw the starting latents again."""
        return [seed_for(self.key, "noise", row) for row in range(self.size)]


@dataclass(frozen=True)
class DrawnGroup:
    """A group that was drawn: its rewards, its transitions by batch of rows and by step, and how its images differ."""

    group: Group
    scores: ImageScores
    transitions: list[list[Transitions]]
    diversity: float


def draw_group(policy: Policy, group: Group, sampler: Sampler, reward: Reward) -> DrawnGroup:
    """Draw a group and score its images, without gradients."""
    schedule = policy.schedule()
    images: list[torch.Tensor] = []
    transitions: list[list[Transitions]] = []
    for start in range(0, group.size, sampler.batch):
        rows = slice(start, start + sampler.batch)
        seeds, noise_seeds = group.seeds[rows], group.noise_seeds[rows]
        noise = Stochastic(noise_seeds, sampler.noise_level, window=sampler.window)
        kept: list[Transitions] = []
        latents = torch.empty(0)
        for number, state in enumerate(policy.draw([group.prompt] * len(seeds), group.guidance, seeds, sampler=noise)):
            latents = state.latents
            if state.logp is not None:
                numbers = (schedule.levels[number], schedule.levels[number + 1], schedule.times[number])
                rates = (*numbers, torch.tensor(max(group.guidance, 1.0)))
                level, following, times, scales = (rate.expand(len(seeds)).to(latents.device) for rate in rates)
                kept.append(Transitions(state.before, latents, level, following, times, scales, state.logp))
        transitions.append(kept)
        images.append(policy.engine.decode(latents))
    pictures = torch.cat(images)
    return DrawnGroup(group, reward(pictures, [group.prompt] * group.size), transitions, diversity(pictures))
