"""Rewards to advantages: how much better an image is than the others of its prompt (Flow-GRPO, arXiv 2505.05470).

    A = clamp((R - mean of the group) / (std + 1e-4), -5, 5)

std is that of all rewards of a rollout, or the group's own. The first leaves a group that differs little with small
advantages; the second makes of every group the same, noise of the reward included.

A reward that is no finite number takes its image out of its group. A group that has fewer than two images left, or
whose rewards are all the same, says nothing and is dropped. Both are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ....base.errors import PrefmillError

Spread = Literal["global", "group"]
_SOFTENING = 1e-4
_LIMIT = 5.0
_SAME = 1e-6
"""Rewards are float32: with a standard deviation below this share of their size (or of 1) they are equal."""


@dataclass(frozen=True)
class Advantages:
    """`values` float32 [groups, size], 0 where not `kept` (bool of the same shape).

    `unusable`: images without a finite reward. `small`: groups with fewer than two images left. `equal`: groups of the
    others without any spread.
    """

    values: torch.Tensor
    kept: torch.Tensor
    unusable: int
    small: int
    equal: int


def advantages(rewards: torch.Tensor, spread: Spread = "global") -> Advantages:
    """Advantages of rewards [groups, size], those of all processes.

    Raises PrefmillError for groups of one, which have nothing to be compared with.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise PrefmillError(
            f"rewards are {list(rewards.shape)}, not [groups, size] of at least two images a group.",
            "set group_size to 2 or more; 8 to 24 are usual",
        )
    wide = rewards.double()
    finite = wide.isfinite()
    counts = finite.sum(1)
    means = _mean(wide, finite, counts)
    centred = (wide - means[:, None]).masked_fill(~finite, 0.0)
    own = (centred.square().sum(1) / counts.clamp(min=1)).sqrt()
    small = counts < 2
    equal = ~small & (own <= _SAME * means.abs().clamp(min=1))
    kept = finite & ~(small | equal)[:, None]
    used = wide[finite & ~small[:, None]]
    scale = used.std(correction=0) if spread == "global" and len(used) else own[:, None]
    values = (centred / (scale + _SOFTENING)).clamp(-_LIMIT, _LIMIT).masked_fill(~kept, 0.0)
    unusable = int((~finite).sum())
    return Advantages(values.float(), kept, unusable, int(small.sum()), int(equal.sum()))


def added_advantages(
    parts: Mapping[str, torch.Tensor], weights: Mapping[str, float], spread: Spread = "global"
) -> Advantages:
    """Advantages of several rewards, each [groups, size], normalised one by one and then added by weight.

    The scale of a reward then does not matter (MixGRPO, arXiv 2507.21802). An image counts only where all rewards are
    finite; a group is equal where it is by all of them.
    """
    stacked = torch.stack([parts[name] for name in weights]).double()
    usable = stacked.isfinite().all(0)
    own = [advantages(part.masked_fill(~usable, torch.nan), spread) for part in stacked]
    total = sum((weight * one.values for weight, one in zip(weights.values(), own, strict=True)), start=torch.zeros(()))
    kept = torch.stack([one.kept for one in own]).any(0)
    groups_equal = usable.any(1) & ~kept.any(1) & (usable.sum(1) > 1)
    return Advantages(
        torch.as_tensor(total).clamp(-_LIMIT, _LIMIT), kept, own[0].unusable, own[0].small, int(groups_equal.sum())
    )


def _mean(values: torch.Tensor, usable: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return values.masked_fill(~usable, 0.0).sum(1) / counts.clamp(min=1)
