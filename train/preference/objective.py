"""The loss of a micro-batch and what is logged of it, from log-probabilities of answer tokens.

Means are taken as TRL takes them: the preference loss over pairs, and the likelihood of the chosen answers that
`sft_weight` adds over all their tokens in the micro-batch.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

import torch

from ...kernels.logprob import TokenStatistics
from ...kernels.preference import Loss as KernelLoss
from ...kernels.preference import preference_loss
from ..settings import DPOTrainingConfig

SUPPORTED: frozenset[str] = frozenset(get_args(KernelLoss))
METRICS = (
    "entropy",
    "mean_token_accuracy",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
)


class Objective(NamedTuple):
    """loss: a scalar to differentiate; per_pair [B] its preference part; metrics [len(METRICS)], without gradients.

    deviation: the largest difference of a segment's log-probability to the reference, per token.
    """

    loss: torch.Tensor
    per_pair: torch.Tensor
    metrics: torch.Tensor
    deviation: torch.Tensor


def objective(
    statistics: TokenStatistics,
    segments: torch.Tensor,
    chosen_tokens: int,
    reference: torch.Tensor,
    config: DPOTrainingConfig,
) -> Objective:
    """Return the objective of B pairs from N answer tokens, the first `chosen_tokens` of chosen answers.

    `reference` [2B] holds the reference's sums.
    """
    pairs = len(reference) // 2
    got = preference_loss(
        statistics.logp,
        segments,
        pairs,
        reference_S=reference,
        loss=config.loss,  # type: ignore[arg-type]  # checked against SUPPORTED before the model is loaded
        beta=config.beta,
        label_smoothing=config.label_smoothing,
    )
    loss = got.loss.mean()
    if config.sft_weight:
        loss = loss - config.sft_weight * statistics.logp[:chosen_tokens].mean()
    metrics = [
        statistics.entropy.mean(),
        statistics.hit[:chosen_tokens].to(loss.dtype).mean(),
        got.chosen_reward.mean(),
        got.rejected_reward.mean(),
        got.accuracy.mean(),
        got.margin.mean(),
        got.sums[:pairs].mean(),
        got.sums[pairs:].mean(),
    ]
    deviation = ((got.sums - reference) / got.tokens).abs().max()
    return Objective(loss, got.loss.detach(), torch.stack(metrics).detach(), deviation)


def sums(statistics: TokenStatistics, segments: torch.Tensor, pairs: int) -> torch.Tensor:
    """Return the summed log-probabilities [2B], added up in the very way `objective` adds up the policy's."""
    return preference_loss(statistics.logp, segments, pairs, reference_S=statistics.logp.new_zeros(2 * pairs)).sums
