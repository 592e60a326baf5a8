"""PDS-DPO's loop with a training that fits a 24 GB card."""

from __future__ import annotations

from .pds_dpo import pds_dpo
from .recipe import Recipe


def low_memory() -> Recipe:
    """PDS-DPO, its training within 24 GB: a base in 4 bits, checkpointed activations, shorter pairs."""
    recipe = pds_dpo()
    assert recipe.train is not None
    changes = {"base_bits": 4, "gradient_checkpointing": True, "max_tokens": 1024}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})
