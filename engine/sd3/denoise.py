"""Noise to latents: the sampling loop of a flow-matching transformer, one state per step.

What a step runs is decided in `guidance.py`. Nothing in the loop reads a value back from the device, so steps queue up,
and a caller decides what to do with a state: prune rows, keep a rollout, or only take the last. Gradients are the
caller's choice as well.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

from ...base.errors import PrefmillError
from ...kernels.guided_step import guided_step, stochastic_step
from .guidance import Conditioning, Guidance
from .levers import Levers
from .step import Steps


@dataclass(frozen=True)
class Schedule:
    """Noise levels [steps + 1], from near 1 down to 0, and the transformer's times [steps]; float32 on the CPU."""

    levels: torch.Tensor
    times: torch.Tensor


@dataclass(frozen=True)
class Stochastic:
    """Sample the flow's SDE (Flow-GRPO, arXiv 2505.05470) in place of its ODE, with log-probabilities of the steps.

    Noise comes from one CPU generator per row, of other seeds than the rows' starting latents: equal ones would draw
    the same numbers. A `rollout`, the latents after each step, is evaluated anew where one is given, and nothing is
    drawn. `window` has the stochastic steps, counted from 0, and the others are Euler's: by default all but the last,
    which never can be, as a step to level 0 has no density. A noise level of 0 is the ODE.
    """

    seeds: Sequence[int] = ()
    noise_level: float = 0.7
    rollout: Sequence[torch.Tensor] | None = None
    window: range | None = None

    def steps(self, count: int) -> range:
        """Which of so many steps are stochastic."""
        if self.noise_level == 0:
            return range(0)
        return range(count - 1) if self.window is None else self.window


@dataclass(frozen=True)
class State:
    """After step `step` (from 1): `latents` [B, C, h, w] at noise level `level`; `logp` [B] of a stochastic step."""

    step: int
    level: float
    latents: torch.Tensor
    logp: torch.Tensor | None
    _before: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]

    @property
    def before(self) -> torch.Tensor:
        """The latents [B, C, h, w] that this step began from."""
        return self._before[0]

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


class Drawing(Iterator[State]):
    """The states of a batch, one after every step. `keep` goes on with some of its rows."""

    def __init__(
        self,
        steps: Steps,
        latents: torch.Tensor,
        conditioning: Conditioning,
        schedule: Schedule,
        sampler: Stochastic | None = None,
        levers: Levers | None = None,
    ) -> None:
        """Draw from `latents` [B, C, h, w] of pure noise, by Euler's method by default.

        Raises PrefmillError for a sampler whose seeds or rollout do not fit, or that comes with levers.
        """
        levers = levers or Levers()
        self.schedule, self.stochastic = schedule, _check(sampler, len(latents), len(schedule.times))
        if sampler is not None:
            levers.require_exact("the stochastic sampler")
        self._latents, self._sampler = latents, sampler
        self._numbers = schedule.levels.tolist()
        self._levels, self._times = schedule.levels.to(latents.device), schedule.times.to(latents.device)
        self._guidance = Guidance(steps, conditioning, levers, self._numbers[:-1])
        self._streams = [torch.Generator().manual_seed(seed) for seed in sampler.seeds] if sampler else []
        self._done = 0

    def __next__(self) -> State:
        """Take the next step."""
        step, batch = self._done, len(self._latents)
        if step == len(self._times):
            raise StopIteration
        level, following = (self._levels[place].expand(batch).contiguous() for place in (step, step + 1))
        inputs = {"latents": self._latents, "times": self._times[step].expand(batch)}
        after = self._guidance.step(step, {**inputs, "level": level, "following": following})
        before = (self._latents, after.prompted, after.unprompted, after.guidance, level)
        self._done, logp = step + 1, None
        if self._sampler is None or step not in self.stochastic:
            self._latents = after.latents
        else:
            given = None if self._sampler.rollout is None else self._sampler.rollout[step]
            noise = _noise(self._latents, self._streams) if given is None else None
            options = {"noise_level": self._sampler.noise_level, "first_level": self._numbers[1]}
            self._latents, logp, _ = stochastic_step(*before, following, noise=noise, given=given, **options)
        return State(self._done, self._numbers[self._done], self._latents, logp, before)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone (whole numbers on the latents' device), each as it would have gone on anyway.

        Raises PrefmillError for a stochastic drawing, whose rows have streams and a rollout of their own.
        """
        if self._sampler is not None:
            raise PrefmillError("a stochastic drawing keeps all its rows.", "draw by Euler's method to prune")
        self._latents = self._latents[rows]
        self._guidance.keep(rows)


def _noise(like: torch.Tensor, streams: Sequence[torch.Generator]) -> torch.Tensor:
    drawn = torch.stack([torch.randn(like.shape[1:], generator=stream) for stream in streams])
    return drawn.to(like.device, like.dtype, non_blocking=True)  # to the device, without waiting for it


def _check(sampler: Stochastic | None, batch: int, steps: int) -> range:
    """Which steps are stochastic."""
    if sampler is None:
        return range(0)
    if not 0 <= sampler.noise_level < math.inf:
        raise PrefmillError(f"noise_level {sampler.noise_level} is no level.", "give 0, the ODE, or more; 0.7 is usual")
    window = sampler.steps(steps)
    if window and not (window.step == 1 and 0 <= window.start < window.stop < steps):
        raise PrefmillError(
            f"{window} does not lie inside the {steps} steps of the schedule without the last, which has no density.",
            f"give a window within range(0, {steps - 1})",
        )
    if sampler.rollout is None and len(sampler.seeds) != batch:
        raise PrefmillError(f"{batch} rows came with {len(sampler.seeds)} noise seeds.", "give one seed per row")
    if sampler.rollout is not None and len(sampler.rollout) < window.stop:
        raise PrefmillError(
            f"the rollout has {len(sampler.rollout)} latents for {steps} steps.", "give the latents after each step"
        )
    return window
