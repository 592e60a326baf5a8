"""Hidden states to rewards: the heads of ArmoRM and of ImageReward."""

from .heads import (
    OP,
    GatedHead,
    Rewards,
    affine_rewards,
    affine_rewards_reference,
    gated_rewards,
    gated_rewards_reference,
)

__all__ = [
    "OP",
    "GatedHead",
    "Rewards",
    "affine_rewards",
    "affine_rewards_reference",
    "gated_rewards",
    "gated_rewards_reference",
]
