"""The settings of group PPO; defaults are those of Flow-GRPO's windowed form, with the noise of the published one."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ....base.settings import Settings
from ...launch_settings import Positive


class PpoSettings(Settings):
    """PPO without a critic, for flows: images of a prompt are compared with each other (Flow-GRPO, arXiv 2505.05470).

    A rollout draws `prompts` groups of `group_size` images, and is learnt from in `updates` optimizer steps, `epochs`
    times.
    """

    group_size: int = Field(default=16, ge=2)
    """Images per prompt; 24 in the paper."""
    prompts: Positive = 16
    """Groups per rollout, of all processes."""
    updates: Positive = 2
    """Optimizer steps that a rollout's groups are shared out to."""
    epochs: Positive = 1
    """How often a rollout is gone through; after the first time the clip is what holds the learner."""
    batch_size: Positive = 16
    """Rows of a group per pass of the transformer, in rollouts and in training alike."""

    clip: float = Field(default=1e-4, gt=0, lt=1)
    """How far a ratio of probabilities may go from 1: little, as log-probabilities are means over a latent's values."""
    beta: float = Field(default=0.01, ge=0)
    """Weight of the divergence from the reference; 0 leaves out its pass of the transformer. It is per step and value,
    so that the published 0.04 at 10 steps is about 0.004 here."""
    old: Literal["drawn", "recomputed"] = "drawn"
    """The log-probabilities that ratios are against: as they were drawn, or computed again before the first update, by
    what computes the gradients. For rollouts under torch_compile, whose rounding differs by more than the clip."""

    noise_level: float = Field(default=0.7, gt=0)
    window: int = Field(default=2, ge=0)
    """How many steps are stochastic, and trained; 0: all that can be."""
    timestep_fraction: float = Field(default=0.5, gt=0, le=1)
    """The first share of a schedule's steps, which the window stays in. The last step never is in it."""
    motion: Literal["random", "progressive"] = "random"
    """A window's place: drawn anew for each rollout, or moving on by a step every `motion_every` rollouts."""
    motion_every: Positive = 25
    guidance: tuple[float, ...] = ()
    """Guidance scales that groups take by turns; empty: that of the training, for all."""
    same_start: bool = False
    """True: a group's images begin from one noise, so that they differ by what the window did alone."""

    spread: Literal["global", "group"] = "global"
    """What advantages are divided by: the standard deviation of all of a rollout's rewards, or of the group's own."""
    combine: Literal["rewards", "advantages"] = "rewards"
    """A mixture's scorers: their rewards are added by weight, or the advantages by each (MixGRPO, arXiv 2507.21802),
    where a reward's scale does not matter."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.prompts % self.updates:
            raise ValueError(f"prompts ({self.prompts}) must be a multiple of updates ({self.updates})")
        return self

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps between two rollouts."""
        return self.updates * self.epochs
