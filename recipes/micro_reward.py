"""The training of an image reward in the micro world: a minute on one core."""

from __future__ import annotations

from ..train.reward.settings import RewardTrainingConfig


def micro_reward() -> RewardTrainingConfig:
    """An image reward on the preferences of the micro world's annotator, from the image reward that comes with it.

    Not from its BLIP: that one has hardly learnt to hold a picture against a prompt, and the preferences of a few
    hundred prompts teach it little more. Few layers are frozen: what it has to learn to see is no matter of its last
    ones. And few epochs, since after two it knows its few preferences by heart.
    """
    return RewardTrainingConfig(
        model="micro:image-reward",
        frozen_share=0.3,
        learning_rate=1e-4,
        warmup_ratio=0.05,
        weight_decay=0.1,
        epochs=4,
        batch_size=32,
        evaluations_per_epoch=2,
        validation_share=0.1,
        zero_stage=0,
    )
