"""The loss of stochastic sampling steps: PPO's clipped ratio with group advantages, and a penalty for moving away.

With the log-probability logp of a step that a rollout took, averaged over a latent's elements, that of the time logp',
the advantage A of its image and the mean m of the step's Gaussian, whose spread is k:

    ratio  = exp(logp - logp')
    loss   = mean(max(-A ratio, -A clip(ratio, 1 - e, 1 + e))) + beta mean((m - m_ref)^2 / (2 k^2))

The second term is the Kullback-Leibler divergence per element between the step's Gaussians with and without the
adapter. (The published implementation divides by k^2 / d instead, with d the step's width: its beta is ours / d.)
All in float32 whatever the type of the velocities: in bfloat16 rounding alone is beyond a clip of 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from ....kernels.guided_step import stochastic_step
from ....kernels.guided_step.stochastic import coefficients


@dataclass(frozen=True)
class Transitions:
    """Steps that rollouts took, B of them, which need not be of one image or one number.

    `before`, `after` [B, C, h, w]; the exact noise `level`, the `following` one and the transformer's `times` of the
    rollout [B]; `guidance` [B]; `logp` [B] as it was drawn.
    """

    before: torch.Tensor
    after: torch.Tensor
    level: torch.Tensor
    following: torch.Tensor
    times: torch.Tensor
    guidance: torch.Tensor
    logp: torch.Tensor

    def only(self, rows: torch.Tensor) -> Transitions:
        """The same with zeros for latents of the other rows: what overflowed there stays out of every gradient."""
        inside = rows.view(-1, *[1] * (self.before.ndim - 1))
        before, after = (latents.masked_fill(~inside, 0.0) for latents in (self.before, self.after))
        return replace(self, before=before, after=after, logp=self.logp.masked_fill(~rows, 0.0))


class Velocities(NamedTuple):
    """What the transformer says with and without the prompt [B, C, h, w]: twice the same where none is guided."""

    prompted: torch.Tensor
    unprompted: torch.Tensor


class SamplerNoise(NamedTuple):
    """The sampler's numbers: how much noise, and the schedule's second level, which stands for a first one of 1."""

    level: float
    first_level: float


class StepObjective(NamedTuple):
    """Per step [B]: `policy` loss, `divergence` from the reference (0 without one) and `ratio`."""

    policy: torch.Tensor
    divergence: torch.Tensor
    ratio: torch.Tensor

    def loss(self, beta: float) -> torch.Tensor:
        """What to minimise, a scalar."""
        return (self.policy + beta * self.divergence).mean()


def objective(
    steps: Transitions,
    advantage: torch.Tensor,
    now: Velocities,
    reference: Velocities | None,
    noise: SamplerNoise,
    clip: float,
) -> StepObjective:
    """The objective of transitions with advantages [B] under the velocities of now, differentiable in them."""
    logp, mean = evaluate(steps, now, noise)
    ratio = (logp - steps.logp).exp()
    bounded = ratio.clamp(1 - clip, 1 + clip)
    policy = torch.maximum(-advantage * ratio, -advantage * bounded)
    divergence = torch.zeros_like(policy)
    if reference is not None:
        with torch.no_grad():
            _, still = evaluate(steps, reference, noise)
        rates = coefficients(steps.guidance, steps.level, steps.following, *noise, steps.before)
        divergence = (mean - still).square().flatten(1).mean(1) / (2 * rates.spread.square())
    return StepObjective(policy, divergence, ratio)


def evaluate(steps: Transitions, velocities: Velocities, noise: SamplerNoise) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability [B] and mean [B, C, h, w] of the steps under other velocities."""
    wide = torch.float64 if steps.before.dtype == torch.float64 else torch.float32
    result = stochastic_step(
        steps.before.to(wide),
        velocities.prompted.to(wide),
        velocities.unprompted.to(wide),
        steps.guidance,
        steps.level,
        steps.following,
        given=steps.after.to(wide),
        noise_level=noise.level,
        first_level=noise.first_level,
    )
    return result.logp, result.mean


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """Which steps [B] the clip leaves without a gradient."""
    return ((ratio > 1 + clip) & (advantage > 0)) | ((ratio < 1 - clip) & (advantage < 0))
