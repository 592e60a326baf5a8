"""The training of an image reward in the micro world: minutes on one core."""

from __future__ import annotations

from ..train.reward.settings import RewardTrainingConfig


def micro_reward() -> RewardTrainingConfig:
    """An image reward from the micro world's BLIP, on the preferences of its annotator."""
    return RewardTrainingConfig(
        model="micro:blip-matching",
        # of three layers one: the tower has only seen clean drawings, and must learn what a bad picture looks like
        frozen_share=0.34,
        learning_rate=5e-4,
        warmup_ratio=0.05,
        weight_decay=0.01,
        epochs=8,
        batch_size=32,
        evaluations_per_epoch=1,
        best_by="accuracy",
        zero_stage=0,
    )
