"""What is told of a training by group PPO: rewards and diversity of rollouts, ratios and divergences of steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .advantage import Advantages
from .objective import StepObjective, clipped

_SUMS = ("policy_loss", "kl", "ratio", "clip_share")
_TOTALS = ("images", "unusable", "dropped_groups")


class Record:
    """Collects numbers until they are taken. Those of rollouts are the same in every process when they come in."""

    def __init__(self, clip: float) -> None:
        self._clip = clip
        self._rollouts: list[dict[str, float]] = []
        self._clear()

    def _clear(self) -> None:
        self._rollouts = []
        self._sums = torch.zeros(len(_SUMS) + 1, dtype=torch.float64)
        self._smallest, self._largest, self._first = torch.inf, -torch.inf, 0.0

    def rollout(self, rewards: torch.Tensor, own: Advantages, diversity: torch.Tensor) -> None:
        """Take the rewards [groups, size] of all processes, what became of them, and how groups differ [groups]."""
        usable = rewards[rewards.isfinite()]
        self._rollouts.append(
            {
                "reward": float(usable.mean()) if len(usable) else 0.0,
                "reward_std": float(usable.std(correction=0)) if len(usable) else 0.0,
                "advantage_std": float(own.values[own.kept].std(correction=0)) if own.kept.any() else 0.0,
                "no_spread_share": own.equal / len(rewards),
                "diversity": float(diversity.nanmean().nan_to_num()),
                "images": rewards.numel(),
                "unusable": own.unusable,
                "dropped_groups": own.equal + own.small,
            }
        )

    def step(self, result: StepObjective, advantage: torch.Tensor, counts: torch.Tensor, *, first: bool) -> None:
        """Take one micro-batch; `counts` [B] tells which rows count, `first` that nothing was learnt from it yet."""
        if not counts.any():
            return
        ratio = result.ratio.detach()
        numbers = (result.policy.detach(), result.divergence.detach(), ratio, clipped(ratio, advantage, self._clip))
        sums = torch.stack([*(number.double()[counts].sum() for number in numbers), counts.double().sum()])
        self._sums += sums.cpu()
        used = ratio[counts]
        self._smallest, self._largest = min(self._smallest, float(used.min())), max(self._largest, float(used.max()))
        if first:
            self._first = max(self._first, float((used - 1).abs().max()))

    def take(self, gather: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Means since the last call over all processes, which must all call it; empty where nothing came in."""
        extremes = torch.tensor([[-self._smallest, self._largest, self._first]], dtype=torch.float64)
        sums, largest = gather(self._sums[None]).sum(0), gather(extremes).amax(0)
        found: dict[str, float] = {}
        for name in self._rollouts[0] if self._rollouts else ():
            total = float(sum(one[name] for one in self._rollouts))
            found[name] = total if name in _TOTALS else total / len(self._rollouts)
        if sums[-1]:
            found |= {name: float(value / sums[-1]) for name, value in zip(_SUMS, sums[:-1], strict=True)}
            smallest, most, first = largest.tolist()
            found |= {"ratio_min": -smallest, "ratio_max": most, "first_ratio_error": first}
        self._clear()
        return found
