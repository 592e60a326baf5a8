"""Where a prompt's tokens stand: one after the other, or, in some families, an image's in rows and columns.

Such families (multimodal rotary positions) know three numbers of every token: time, row and column. The model's own
`get_rope_index` counts them over a prompt. Text that follows an image begins after the largest of the numbers, so both
answers of a pair do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

PrefixPositions = Callable[[Sequence[int], torch.Tensor], torch.Tensor]
"""From a prompt's tokens and its image's grid [1, 3] to their positions [3, P]."""


def rotary_positions(model: PreTrainedModel) -> PrefixPositions | None:
    """Return how a model counts positions in rows and columns; None for one that counts up."""
    body: Any = model.base_model
    if not hasattr(body, "get_rope_index"):
        return None
    image_token = model.config.image_token_id

    def positions(prefix: Sequence[int], grid: torch.Tensor) -> torch.Tensor:
        ids = torch.tensor([list(prefix)])
        kinds = (ids == image_token).int()
        seen = torch.ones_like(ids)
        return body.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grid, attention_mask=seen)[0][:, 0]

    return positions
