"""Which steps of a rollout are stochastic, and so are trained: a window that moves, or all that can be.

SamplerNoise in a few steps alone costs a fraction of the training, and says which steps earned the reward (MixGRPO,
arXiv 2507.21802; Flow-GRPO-Fast). The first steps decide what is in an image, so a window stays in the schedule's first
part. The last step is never in it: a step to level 0 has no density.
"""

from __future__ import annotations

import random
from typing import Literal

from ....base.errors import PrefmillError

Motion = Literal["random", "progressive"]


def trainable_steps(steps: int, fraction: float) -> int:
    """How many of a schedule's steps may be stochastic: the first `fraction` of them, without the last."""
    return min(int(steps * fraction), steps - 1)


def stochastic_steps(
    steps: int, size: int, fraction: float, motion: Motion, *, rollout: int, seed: int, every: int = 1
) -> range:
    """The stochastic steps, counted from 0, of rollout number `rollout`.

    A `size` of 0 is all that may be. A random window depends on seed and rollout alone; a progressive one moves on by
    a step after `every` rollouts, and from the end back to the beginning. Raises PrefmillError for a window that does
    not fit.
    """
    room = trainable_steps(steps, fraction)
    if room < max(size, 1):
        raise PrefmillError(
            f"a window of {size or 'all'} steps does not fit into the first {fraction:g} of {steps} steps, "
            f"the last one left out: there is room for {max(room, 0)}.",
            f"set window={room}" if room > 0 else "set sampling_steps=8, or timestep_fraction=0.99",
        )
    if not size:
        return range(room)
    places = room - size + 1
    start = random.Random(f"{seed} {rollout}").randrange(places) if motion == "random" else rollout // every % places
    return range(start, start + size)
