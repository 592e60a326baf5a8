"""Hidden states to rewards: the heads of ArmoRM and of ImageReward."""

from .affine import OP as AFFINE
from .affine import affine_rewards, affine_rewards_reference
from .heads import OP, GatedHead, Rewards, gated_rewards, gated_rewards_reference

OPS = (OP, AFFINE)

__all__ = [
    "OP",
    "OPS",
    "GatedHead",
    "Rewards",
    "affine_rewards",
    "affine_rewards_reference",
    "gated_rewards",
    "gated_rewards_reference",
]
