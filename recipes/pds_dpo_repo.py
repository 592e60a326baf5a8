"""PDS-DPO as its authors' scripts run it, where they differ from the paper.

The scripts train with a global batch of 2 (one pair on each of two GPUs, no accumulation), where the paper says 8;
with the system prompt of Vicuna; up to 5,012 tokens (within the model's context), and save every 2,000 steps. Loss,
beta, LoRA and learning rate are the defaults there as here. What is not taken over: the responders in 4 bits and
without a chat template, the sides of an image padded to a square, and batches grouped by length.
"""

from __future__ import annotations

from .pds_dpo import pds_dpo
from .recipe import Recipe

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def pds_dpo_repo() -> Recipe:
    """PDS-DPO with the settings of its authors' scripts: three responders, global batch 2, Vicuna's system prompt."""
    recipe = pds_dpo()
    assert recipe.train is not None
    changes = {
        "system_prompt": _SYSTEM,
        "max_tokens": 5012,
        "batch_size": 1,
        "accumulation": 1,
        "processes": 2,
        "save_every": 2000,
    }
    three = recipe.responders[:3]  # without Llama 3
    return recipe.model_copy(update={"responders": three, "train": recipe.train.model_copy(update=changes)})
