"""Bradley-Terry on pairs of images: -log s(r_chosen - r_rejected), smoothed and weighted where that is asked for.

Every pair counts the same, whichever prompt it belongs to. A micro-batch holds whole prompts, which have unequal
numbers of pairs; so its loss is the sum over its pairs divided by the pairs that so many prompts have on average. Then
micro-batches and processes can be averaged as they come: the gradient is that of the mean over all pairs of a step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import logsigmoid


class Comparisons(NamedTuple):
    """Pairs [P]: rows of chosen and rejected image, the head that tells, what it counts, its prompt's row."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    head: torch.Tensor
    weight: torch.Tensor
    prompt: torch.Tensor
    aspect: torch.Tensor


class PairOutcomes(NamedTuple):
    """Per pair [P]: the difference of its rewards, and its loss."""

    difference: torch.Tensor
    loss: torch.Tensor


def compare(rewards: torch.Tensor, pairs: Comparisons, label_smoothing: float = 0.0) -> PairOutcomes:
    """Raw rewards [I, H] of a batch's images to what its pairs say."""
    difference = rewards[pairs.chosen, pairs.head] - rewards[pairs.rejected, pairs.head]
    loss = -(1 - label_smoothing) * logsigmoid(difference) - label_smoothing * logsigmoid(-difference)
    return PairOutcomes(difference, pairs.weight * loss)


def sums_by_prompt(compared: PairOutcomes, pairs: Comparisons, prompts: int, aspects: int) -> torch.Tensor:
    """Return [prompts, aspects, 4]: sums over the pairs of loss, right order (equal is wrong), difference, and 1."""
    right = (compared.difference > 0).to(compared.loss.dtype)
    values = torch.stack([compared.loss, right, compared.difference, torch.ones_like(right)], dim=1)
    sums = values.new_zeros(prompts * aspects, 4)
    return sums.index_add(0, pairs.prompt * aspects + pairs.aspect, values).view(prompts, aspects, 4)


def means(sums: torch.Tensor, aspects: tuple[str, ...]) -> dict[str, float]:
    """Sums [aspects, 4] to the means over pairs: loss, accuracy and margin, with several aspects also each one's."""
    total = sums.sum(0)
    named: dict[str, float] = dict(zip(("loss", "accuracy", "margin"), (total[:3] / total[3]).tolist(), strict=True))
    if len(aspects) > 1:
        for aspect, own in zip(aspects, sums, strict=True):
            if own[3]:
                named[f"accuracy/{aspect}"] = float(own[1] / own[3])
    return named
