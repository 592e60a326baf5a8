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
    "kl/off_policy_k1",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
)
"""The first `_OVER_TOKENS` are means over answer tokens, the others over pairs.

kl/off_policy_k1 is the mean of log(policy / reference), in nats, over the tokens of both answers. With answers that
the policy has sampled it would estimate KL(policy || reference). These are the pairs' own, so it is none, and may
fall below zero: it tells how far the policy has moved on them, zero where it has not, and which way.
"""
_OVER_TOKENS = 3
IMAGE_METRICS = ("rewards/image_accuracies", "rewards/image_margins")
"""With an image term: the chosen answer's reward with its image against that with the corrupted one."""


class Objective(NamedTuple):
    """loss: a scalar to differentiate; per_pair [B] its preference part; metrics, see `metric_names`, no gradients.

    deviation: the largest difference of a segment's log-probability to the reference, per token.
    columns [B, C]: what is known of each pair, see `pair_columns`.
    """

    loss: torch.Tensor
    per_pair: torch.Tensor
    metrics: torch.Tensor
    deviation: torch.Tensor
    columns: torch.Tensor


def metric_names(config: DPOTrainingConfig) -> tuple[str, ...]:
    """Return the names of an objective's metrics."""
    return METRICS + (IMAGE_METRICS if config.image_weight else ())


def pair_columns(config: DPOTrainingConfig) -> tuple[str, ...]:
    """Return the names of an objective's columns: of metrics, those that are no means over tokens."""
    return ("loss", *metric_names(config)[_OVER_TOKENS:], "chosen_tokens")


def objective(
    statistics: TokenStatistics,
    segments: torch.Tensor,
    chosen_tokens: int,
    reference: torch.Tensor,
    config: DPOTrainingConfig,
    weights: torch.Tensor | None = None,
) -> Objective:
    """Return the objective of B pairs from N answer tokens, the first `chosen_tokens` of chosen answers.

    `reference` [2B], or [3B] with an image term, holds the reference's sums; `weights` [B]: what each pair counts.
    """
    pairs = len(reference) // (3 if config.image_weight else 2)
    got = preference_loss(
        statistics.logp,
        segments,
        pairs,
        reference_S=reference,
        loss=config.loss,  # type: ignore[arg-type]  # checked against SUPPORTED before the model is loaded
        beta=config.beta,
        label_smoothing=config.label_smoothing,
        image_weight=config.image_weight,
        anchor_weight=config.anchor_weight,
        anchor_margin=config.anchor_margin,
    )
    losses = got.loss if weights is None else got.loss * weights.to(got.loss.dtype)
    loss = losses.mean()
    if config.sft_weight:
        loss = loss - config.sft_weight * statistics.logp[:chosen_tokens].mean()
    chosen, rejected, *corrupted = got.sums.split(pairs)
    columns = [got.chosen_reward, got.rejected_reward, got.accuracy, got.margin, chosen, rejected]
    entropy = statistics.entropy.mean()
    if corrupted:
        image_margin = got.chosen_reward - config.beta * (corrupted[0] - reference[2 * pairs :])
        columns += [(image_margin > 0).to(image_margin.dtype), image_margin]
        usual = (segments < 2 * pairs).to(entropy.dtype)  # the metric is one of pairs, with an image term or without
        entropy = (statistics.entropy * usual).sum() / usual.sum()
    hit = statistics.hit[:chosen_tokens].to(loss.dtype).mean()
    ratio = (got.sums - reference)[: 2 * pairs].sum() / got.tokens[: 2 * pairs].sum()
    metrics = torch.stack([entropy, hit, ratio, *(column.mean() for column in columns)]).detach()
    deviation = ((got.sums - reference) / got.tokens).abs().max()
    table = torch.stack([losses.detach(), *columns, got.tokens[:pairs]], 1)
    return Objective(loss, losses.detach(), metrics, deviation, table)


def sums(statistics: TokenStatistics, segments: torch.Tensor, pairs: int, blocks: int = 2) -> torch.Tensor:
    """Return the summed log-probabilities [2B], or [3B], added up in the way `objective` adds up the policy's."""
    zero = statistics.logp.new_zeros(blocks * pairs)
    image_weight = float(blocks == 3)
    return preference_loss(statistics.logp, segments, pairs, reference_S=zero, image_weight=image_weight).sums
