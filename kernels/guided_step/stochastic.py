"""Guidance and one stochastic sampling step of a flow-matching model, with its log-probability.

Policy gradients need a distribution over the next sample x', so the flow's SDE (Flow-GRPO, arXiv 2505.05470) adds
noise z to the step; with v, s, s' and d as in `step.py`:

    a    = noise_level sqrt(s / (1 - s)),   k = a sqrt(-d)
    mean = x (1 + a^2 d / (2s)) + v d (1 + a^2 (1 - s) / (2s)),   x' = mean + k z
    logp = average over a sample's elements of log N(x'; mean, k^2)

At s = 1 the 1 - s under the root takes `first_level` (the schedule's second s) for s, as the authors do. All in
float32 whatever the type; x' may be drawn (from given z) or given (a stored rollout, to be evaluated anew), and
`logp` and `mean` are differentiable in both velocities.
"""

import math
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from ..operation import Case, Inputs, Mode, Op
from ..triton_support import runs_triton
from .kernel import STOCHASTIC_BUILDS, Coefficients, launch_backward, launch_step
from .step import check_shapes, make_inputs


class StochasticStep(NamedTuple):
    """x' [B, ...] in the sample's type, its log-probability [B] and the mean [B, ...], both in float32."""

    sample: torch.Tensor
    logp: torch.Tensor
    mean: torch.Tensor


def stochastic_step(
    sample: torch.Tensor,
    prompted: torch.Tensor,
    unprompted: torch.Tensor,
    guidance_B: torch.Tensor,
    level_B: torch.Tensor,
    next_level_B: torch.Tensor,
    *,
    noise: torch.Tensor | None = None,
    given: torch.Tensor | None = None,
    noise_level: float = 0.7,
    first_level: float = 0.99,
) -> StochasticStep:
    """The SDE step: x' from `noise` (standard normal), or the log-probability of a `given` x'.

    A step to level 0 or up, where the SDE has no density, gives NaN: to refuse it would mean to wait for the device.
    Raises ValueError for shapes that do not fit, and unless exactly one of noise and given is there.
    """
    check_shapes(sample, prompted, unprompted, guidance_B, level_B, next_level_B, *(noise, given))
    if (noise is None) == (given is None):
        raise ValueError("give either noise to draw with or a given next sample to evaluate")
    if not noise_level > 0:
        raise ValueError(f"noise_level {noise_level} must be positive")
    rates = coefficients(guidance_B, level_B, next_level_B, noise_level, first_level, sample)
    if runs_triton(sample):
        return StochasticStep(*_Stochastic.apply(sample, prompted, unprompted, rates, noise, given))  # type: ignore[misc]
    return in_torch(sample, prompted, unprompted, rates, noise, given)


def stochastic_step_reference(
    sample: torch.Tensor,
    prompted: torch.Tensor,
    unprompted: torch.Tensor,
    guidance_B: torch.Tensor,
    level_B: torch.Tensor,
    next_level_B: torch.Tensor,
    *,
    noise: torch.Tensor | None = None,
    given: torch.Tensor | None = None,
    noise_level: float = 0.7,
    first_level: float = 0.99,
) -> StochasticStep:
    """The same in plain torch."""
    rates = coefficients(guidance_B, level_B, next_level_B, noise_level, first_level, sample)
    return in_torch(sample, prompted, unprompted, rates, noise, given)


def coefficients(
    guidance_B: torch.Tensor,
    level_B: torch.Tensor,
    next_level_B: torch.Tensor,
    noise_level: float,
    first_level: float,
    like: torch.Tensor,
) -> Coefficients:
    """The SDE's numbers per sample, made in float64."""
    wide = torch.float64 if like.dtype == torch.float64 else torch.float32
    level, step = level_B.double(), next_level_B.double() - level_B.double()
    sound = (next_level_B > 0) & (step < 0) & (level <= 1)
    step = step.masked_fill(~sound, math.nan)
    variance = noise_level**2 * level / (1 - torch.where(level == 1, first_level, level))
    keep = 1 + variance * step / (2 * level)
    move = step * (1 + variance * (1 - level) / (2 * level))
    spread = (variance * -step).sqrt()
    return Coefficients(keep.to(wide), move.to(wide), spread.to(wide), guidance_B.to(wide))


def in_torch(
    sample: torch.Tensor,
    prompted: torch.Tensor,
    unprompted: torch.Tensor,
    rates: Coefficients,
    noise: torch.Tensor | None,
    given: torch.Tensor | None,
) -> StochasticStep:
    """The CPU path, and what autograd differentiates."""
    keep, move, spread, guidance = (rate.view(-1, *[1] * (sample.ndim - 1)) for rate in rates)
    base = unprompted.to(keep.dtype)
    mean = sample.to(keep.dtype) * keep + (base + guidance * (prompted.to(keep.dtype) - base)) * move
    if noise is not None:
        following = (mean.detach() + spread * noise.to(keep.dtype)).to(sample.dtype)
    else:
        assert given is not None
        following = given.detach()
    distance = (following.to(keep.dtype) - mean) / spread
    logp = -0.5 * distance.square().flatten(1).mean(1) - rates.spread.log() - 0.5 * math.log(2 * math.pi)
    return StochasticStep(following, logp, mean)


class _Stochastic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sample: Any, prompted: Any, unprompted: Any, rates: Any, noise: Any, given: Any) -> Any:
        following, partial, mean = launch_step(sample, prompted, unprompted, rates, noise=noise, given=given)
        count = sample[0].numel()
        logp = -0.5 * partial.sum(1) / count - rates.spread.log() - 0.5 * math.log(2 * math.pi)
        ctx.save_for_backward(following, mean, *rates)
        ctx.types = prompted.dtype, unprompted.dtype
        ctx.mark_non_differentiable(following)
        return following, logp, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # type: ignore[override]
        following, mean, *rates = ctx.saved_tensors
        _, to_logp, to_mean = gradients
        grads = launch_backward(following, mean, Coefficients(*rates), to_logp, to_mean, ctx.types)
        return None, *grads, None, None, None


def _make(case: Case, device: torch.device) -> Inputs:
    given = make_inputs(case, device)
    draw = torch.Generator().manual_seed(1)
    return {**given, "noise": torch.randn(given["sample"].shape, generator=draw).to(device, case.dtype)}


def _work(per_element: float) -> Any:
    def count(case: Case, mode: Mode) -> float:
        passes = {"forward": 1.0, "backward": 1.0, "both": 2.0}[mode]
        return passes * per_element * case.sizes["B"] * 16 * case.sizes["S"] ** 2

    return count


OP = Op(
    name="stochastic_step",
    public=stochastic_step,
    reference=stochastic_step_reference,
    make=_make,
    cases=(Case("sd3 512", {"B": 8, "S": 64}), Case("sd3 1024", {"B": 8, "S": 128}, torch.bfloat16)),
    gpu_cases=tuple(Case("sd3 1024", {"B": batch, "S": 128}, torch.bfloat16) for batch in (8, 64)),
    flops=_work(12),
    # four reads and one write in the sample's type, and the mean in float32
    traffic=lambda case, mode: (5 * case.dtype.itemsize + 4) * _work(1)(case, mode),
    bound="memory",
    builds=STOCHASTIC_BUILDS,
)
