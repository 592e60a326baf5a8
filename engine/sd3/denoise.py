"""Noise to latents: the sampling loop of a flow-matching transformer, one state per step.

A step is one network (`step.py`). Nothing in the loop reads a value back from the device, so steps queue up, and a
caller decides what to do with a state: prune rows, keep a rollout, or only take the last. Gradients are the caller's
choice as well.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

from ...base.errors import PrefmillError
from ...kernels.guided_step import guided_step, stochastic_step
from .step import Steps
from .text import TextEmbedding


@dataclass(frozen=True)
class Schedule:
    """Noise levels [steps + 1], from near 1 down to 0, and the transformer's times [steps]; float32 on the CPU."""

    levels: torch.Tensor
    times: torch.Tensor


@dataclass(frozen=True)
class Conditioning:
    """What a batch of B rows is drawn from: prompts, guidance scales [B] (at least 1), and the empty prompt, one row.

    Without `unprompted` no row is guided, and the transformer runs once per row and not twice.
    """

    prompted: TextEmbedding
    guidance: torch.Tensor
    unprompted: TextEmbedding | None = None


@dataclass(frozen=True)
class Stochastic:
    """Sample the flow's SDE (Flow-GRPO, arXiv 2505.05470) in place of its ODE, with log-probabilities of the steps.

    Noise comes from one CPU generator per row. A `rollout`, the latents after each step, is evaluated anew where one is
    given, and nothing is drawn. The step to level 0 has no density: it is Euler's.
    """

    seeds: Sequence[int] = ()
    noise_level: float = 0.7
    rollout: Sequence[torch.Tensor] | None = None


@dataclass(frozen=True)
class State:
    """After step `step` (from 1): `latents` [B, C, h, w] at noise level `level`; `logp` [B] of a stochastic step."""

    step: int
    level: float
    latents: torch.Tensor
    logp: torch.Tensor | None
    _before: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]

    def clean(self) -> torch.Tensor:
        """The clean latents [B, C, h, w] that this step's velocities point to, one kernel: what pruning judges."""
        sample, prompted, unprompted, guidance, level = self._before
        return guided_step(sample, prompted, unprompted, guidance, level, torch.zeros_like(level))


def make_schedule(scheduler: FlowMatchEulerDiscreteScheduler, steps: int, image_tokens: int) -> Schedule:
    """The levels that a checkpoint's scheduler gives `steps` steps for images of so many tokens."""
    config: Any = scheduler.config
    shift = {}
    if config.use_dynamic_shifting:
        shift["mu"] = calculate_shift(
            image_tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
        )
    scheduler.set_timesteps(steps, device="cpu", **shift)
    return Schedule(torch.as_tensor(scheduler.sigmas), torch.as_tensor(scheduler.timesteps))


def denoise(
    steps: Steps,
    latents: torch.Tensor,
    conditioning: Conditioning,
    schedule: Schedule,
    sampler: Stochastic | None = None,
) -> Iterator[State]:
    """Yield the state after every step, from `latents` [B, C, h, w] of pure noise; by Euler's method by default.

    Raises PrefmillError for a sampler whose seeds or rollout do not fit, and without guidance where nothing was loaded
    that runs it.
    """
    _check(sampler, len(latents), len(schedule.times))
    device, batch = latents.device, len(latents)
    numbers = schedule.levels.tolist()
    levels = schedule.levels.to(device)[:, None].expand(-1, batch).contiguous()
    times = schedule.times.to(device)
    text = {"tokens": conditioning.prompted.tokens, "pooled": conditioning.prompted.pooled}
    runner = steps.plain
    if conditioning.unprompted is not None:
        runner = steps.guided
        empty = conditioning.unprompted
        text |= {"empty_tokens": empty.tokens, "empty_pooled": empty.pooled, "guidance": conditioning.guidance}
    if runner is None:
        raise PrefmillError("this model was loaded for guided images alone.", "load it with the scales it will draw at")
    streams = [torch.Generator().manual_seed(seed) for seed in sampler.seeds] if sampler else []
    for step, (level, following) in enumerate(pairwise(levels), start=1):
        inputs = {"latents": latents, "times": times[step - 1].expand(batch), "level": level, "following": following}
        after = runner.run({**inputs, **text})
        prompted, unprompted = after["prompted"], after.get("unprompted", after["prompted"])
        before = (latents, prompted, unprompted, conditioning.guidance, level)
        logp = None
        if sampler is None or step == len(times):
            latents = after["next_latents"]
        else:
            given = None if sampler.rollout is None else sampler.rollout[step - 1]
            noise = _noise(latents, streams) if given is None else None
            options = {"noise_level": sampler.noise_level, "first_level": numbers[1]}
            latents, logp, _ = stochastic_step(*before, following, noise=noise, given=given, **options)
        yield State(step, numbers[step], latents, logp, before)


def _noise(like: torch.Tensor, streams: Sequence[torch.Generator]) -> torch.Tensor:
    drawn = torch.stack([torch.randn(like.shape[1:], generator=stream) for stream in streams])
    return drawn.to(like.device, like.dtype, non_blocking=True)  # to the device, without waiting for it


def _check(sampler: Stochastic | None, batch: int, steps: int) -> None:
    if sampler is None:
        return
    if not sampler.noise_level > 0:
        raise PrefmillError(f"noise_level {sampler.noise_level} adds no noise.", "give a level above 0; 0.7 is usual")
    if sampler.rollout is None and len(sampler.seeds) != batch:
        raise PrefmillError(f"{batch} rows came with {len(sampler.seeds)} noise seeds.", "give one seed per row")
    if sampler.rollout is not None and len(sampler.rollout) < steps - 1:
        raise PrefmillError(
            f"the rollout has {len(sampler.rollout)} latents for {steps} steps.", "give the latents after each step"
        )
