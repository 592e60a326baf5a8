"""What a recipe returns: one frozen configuration of a whole loop, from the prompts to the adapter."""

from __future__ import annotations

from ..pipeline.synthesis import SynthesisConfig
from ..train.settings import DPOTrainingConfig


class Recipe(SynthesisConfig):
    """The synthesis of pairs, and the training on them (None: stop at the pairs)."""

    train: DPOTrainingConfig | None = None
