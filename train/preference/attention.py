"""Attention over pairs that share their prompt: no mask in memory, no work between pairs, none on padding.

Per pair two calls: [prompt | chosen] sees itself causally, and rejected sees [prompt | rejected] causally. It is
registered with transformers' attention interface, so that any model that fetches its attention there computes it.
Models that do not take a boolean 4-D mask instead, under torch's scaled dot product attention. The eager attention of
transformers adds masks to logits: it would take a boolean one for numbers, and be wrong without a word. It is refused.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Literal

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from ...base.errors import PrefmillError
from .layout import Spans

PAIRS = "prefmill_pairs"
AttentionWay = Literal["pairs", "mask"]
_UNKNOWN = ("softcap", "s_aux", "position_bias")


def pair_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    pair_spans: tuple[tuple[Spans, ...], ...] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within pairs: query [R, H, L, D], key and value [R, G, L, D] to [R, L, H, D], zero on padding.

    Raises PrefmillError for a model whose attention has parts that are not computed here.
    """
    assert pair_spans is not None, "the pairs' spans did not reach the attention"
    _require_plain(module, pair_spans, kwargs)
    settings: dict[str, Any] = {"scale": scaling, "dropout_p": dropout, "enable_gqa": key.shape[1] != query.shape[1]}
    rows = []
    for row, pairs in enumerate(pair_spans):
        sides = [tokens for prefix, chosen, rejected in pairs for tokens in (prefix + chosen, rejected)]
        padding = query.shape[2] - sum(sides)
        # one split, whose gradient is one concatenation: a slice's is a whole row of zeros
        q, k, v = (part[row : row + 1].split([*sides, padding], 2) for part in (query, key, value))
        parts = []
        for pair, (prefix, _, rejected) in enumerate(pairs):
            first, second = 2 * pair, 2 * pair + 1
            parts.append(scaled_dot_product_attention(q[first], k[first], v[first], is_causal=True, **settings))
            if not rejected:
                continue
            both = (torch.cat([part[first][:, :, :prefix], part[second]], 2) for part in (k, v))
            mask = causal_lower_right(rejected, prefix + rejected)
            parts.append(scaled_dot_product_attention(q[second], *both, attn_mask=mask, **settings))
        rows.append(torch.cat([*parts, torch.zeros_like(q[-1])], 2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


def use_pair_attention(model: PreTrainedModel, way: AttentionWay | None = None) -> AttentionWay:
    """Switch a model's language part to attention over pairs, and return the way it takes.

    `way` None takes the better. Raises PrefmillError for a model with neither way.
    """
    decoder = model.get_decoder()
    way = way or ("pairs" if decoder.is_backend_compatible() else "mask")
    try:
        decoder.set_attn_implementation(PAIRS if way == "pairs" else "sdpa")
    except (ValueError, ImportError) as error:
        raise _refused(model, str(error).splitlines()[0]) from error
    require_pair_attention(model, way)
    return way


def require_pair_attention(model: PreTrainedModel, way: AttentionWay) -> None:
    """Raise PrefmillError when the language part would run another attention, such as eager, whose mask adds."""
    found = getattr(model.get_decoder().config, "_attn_implementation", None)
    if found != (PAIRS if way == "pairs" else "sdpa"):
        raise _refused(model, f"its attention is {found!r}, which does not take the mask of a pair")


def _refused(model: PreTrainedModel, reason: str) -> PrefmillError:
    return PrefmillError(
        f"{type(model).__name__} cannot read a prompt once for two answers: {reason}", "train with backend=trl"
    )


def _require_plain(module: torch.nn.Module, spans: tuple[tuple[Spans, ...], ...], kwargs: dict[str, Any]) -> None:
    odd = [name for name in _UNKNOWN if kwargs.get(name) is not None]
    window = kwargs.get("sliding_window")
    longest = max(prefix + max(chosen, rejected) for prefix, chosen, rejected in chain(*spans))
    if window is not None and window < longest:
        odd.append(f"a window of {window} tokens on sequences of {longest}")
    if odd:
        raise PrefmillError(
            f"{type(module).__name__} attends with {', '.join(odd)}, which attention over pairs does not compute",
            "train with backend=trl",
        )


AttentionInterface.register(PAIRS, pair_attention)
