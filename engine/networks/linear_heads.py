"""Heads that were trained as several linear layers with nothing between them, folded to the one that they are."""

from collections.abc import Mapping, Sequence

import torch

from ...base.errors import PrefmillError


def fold_layers(
    state: Mapping[str, torch.Tensor], prefix: str, numbers: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [1, D] and bias [1] of the layers `prefix + number` in order, folded in float64, as float32.

    Raises PrefmillError for a layer that is missing or does not fit the one before it.
    """
    weight = bias = None
    for number in numbers:
        try:
            next_weight = state[f"{prefix}{number}.weight"].double()
            next_bias = state[f"{prefix}{number}.bias"].double()
        except KeyError as error:
            raise PrefmillError(f"the weights lack {error}.", "use the official weights") from error
        if weight is None or bias is None:
            weight, bias = next_weight, next_bias
            continue
        if next_weight.ndim != 2 or next_weight.shape[1] != weight.shape[0]:
            raise PrefmillError(
                f"{prefix}{number}.weight is {list(next_weight.shape)}, its input has {weight.shape[0]} values.",
                "use the official weights",
            )
        bias = next_weight @ bias + next_bias
        weight = next_weight @ weight
    if weight is None or bias is None:
        raise PrefmillError("the head has no layers.", "use the official weights")
    return weight.float(), bias.float()
