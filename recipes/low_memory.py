"""PDS-DPO's loop with a training that fits a 24 GB card."""

from __future__ import annotations

from .pds_dpo import pds_dpo
from .recipe import Recipe


def low_memory() -> Recipe:
    """PDS-DPO, its training within 24 GB: a base in 4 bits, checkpointed activations, one pair at a time."""
    recipe = pds_dpo()
    assert recipe.train is not None
    changes = {
        "lora_rank": 8,
        "lora_alpha": 16,
        "max_tokens": 1024,
        "batch_size": 1,
        "accumulation": 8,
        "gradient_checkpointing": True,
    }
    if "base_bits" in type(recipe.train).model_fields:
        changes["base_bits"] = 4
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})
