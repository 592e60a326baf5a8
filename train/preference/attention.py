"""Attention over pairs that share their prompt: no mask in memory, no work between pairs, none on padding.

Every answer is a sequence of queries: chosen with its prompt before it, rejected on its own. Both see, causally, a
sequence of keys that begins with the prompt: [prompt | chosen], [prompt | rejected]. Three ways compute this:

- `pairs`: torch's scaled dot product attention, two calls per pair. Everywhere, in every precision.
- `varlen`: torch's variable-length flash attention, one call for all pairs. On a GPU, in half precision.
- `mask`: a boolean 4-D mask under scaled dot product attention, for models whose attention cannot be chosen.

The first two are registered with transformers' attention interface, so that any model that fetches its attention there
computes them. The eager attention of transformers adds masks to logits: it would take a boolean one for numbers, and be
wrong without a word. It is refused.
"""

from __future__ import annotations

import inspect
from itertools import accumulate, chain
from typing import Any, Literal

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from ...base.errors import PrefmillError
from .layout import Spans

PAIRS, VARLEN = "prefmill_pairs", "prefmill_varlen"
AttentionWay = Literal["pairs", "varlen", "mask"]
_NAMES: dict[AttentionWay, str] = {"pairs": PAIRS, "varlen": VARLEN, "mask": "sdpa"}
_UNKNOWN = ("softcap", "s_aux", "position_bias")
_HALF = (torch.bfloat16, torch.float16)


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
    _require_plain(module, longest(pair_spans), kwargs)
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


def varlen_pair_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    pair_index: dict[str, Any] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within pairs as `pair_attention`, in one call; `pair_index` is what `varlen_index` makes of the spans."""
    from torch.nn.attention.varlen import varlen_attn  # several seconds, and of use on a GPU alone

    assert pair_index is not None, "the pairs' index did not reach the attention"
    _require_plain(module, pair_index["longest_keys"], {**kwargs, "dropout": dropout or None})
    rows, heads, length, width = query.shape
    # autocast does not reach this operation, and rotary positions may have left single precision behind
    is_cast = value.dtype not in _HALF and torch.is_autocast_enabled(value.device.type)
    dtype = torch.get_autocast_dtype(value.device.type) if is_cast else value.dtype
    queries, keys, values = (part.transpose(1, 2).flatten(0, 1) for part in (query, key, value))
    is_padded = len(pair_index["queries"]) < rows * length
    if is_padded:
        queries = queries.index_select(0, pair_index["queries"])
    out: Any = varlen_attn(
        queries.to(dtype),
        keys.index_select(0, pair_index["keys"]).to(dtype),
        values.index_select(0, pair_index["keys"]).to(dtype),
        pair_index["query_starts"],
        pair_index["key_starts"],
        pair_index["longest_queries"],
        pair_index["longest_keys"],
        scale=scaling,
        window_size=(-1, 0),  # causal; where there are fewer queries than keys, both end together
        enable_gqa=key.shape[1] != heads,
    )
    if is_padded:
        out = out.new_zeros(rows * length, heads, width).index_copy(0, pair_index["queries"], out)
    return out.view(rows, length, heads, width), None


def varlen_index(spans: tuple[tuple[Spans, ...], ...], length: int) -> dict[str, Any]:
    """Return which tokens are queries and which are keys, and where each of the S sequences begins among them.

    queries [T], keys [K]: places among the R * `length` tokens; query_starts, key_starts [S + 1] int32;
    longest_queries, longest_keys: of the sequences.
    """
    queries: list[range] = []
    keys: list[list[int]] = []
    for row, pairs in enumerate(spans):
        start = row * length
        for prefix, chosen, rejected in pairs:
            middle, end = start + prefix + chosen, start + prefix + chosen + rejected
            queries.append(range(start, middle))
            keys.append([*range(start, middle)])
            if rejected:
                queries.append(range(middle, end))
                keys.append([*range(start, start + prefix), *range(middle, end)])
            start = end
    starts = [torch.tensor([0, *accumulate(map(len, sequences))], dtype=torch.int32) for sequences in (queries, keys)]
    return {
        "queries": torch.tensor([*chain(*queries)]),
        "keys": torch.tensor([*chain(*keys)]),
        "query_starts": starts[0],
        "key_starts": starts[1],
        "longest_queries": max(map(len, queries)),
        "longest_keys": max(map(len, keys)),
    }


def longest(spans: tuple[tuple[Spans, ...], ...]) -> int:
    """Return the length of the longest [prompt | answer]."""
    return max(prefix + max(chosen, rejected) for prefix, chosen, rejected in chain(*spans))


def best_way(model: PreTrainedModel, device: str, dtype: torch.dtype) -> AttentionWay:
    """Return the way that a model's language part takes on a device ("cpu", "cuda") in a precision."""
    decoder = model.get_decoder()
    if not decoder.is_backend_compatible():
        return "mask"
    config: Any = decoder.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    fits = dtype in _HALF and width % 8 == 0 and width <= 256 and not getattr(config, "attention_dropout", 0)
    return "varlen" if device == "cuda" and fits and _has_varlen() else "pairs"


def use_pair_attention(model: PreTrainedModel, way: AttentionWay | None = None) -> AttentionWay:
    """Switch a model's language part to attention over pairs, and return the way it takes.

    `way` None takes the best one on a CPU. Raises PrefmillError for a model without the way.
    """
    way = way or best_way(model, "cpu", torch.float32)
    try:
        model.get_decoder().set_attn_implementation(_NAMES[way])
    except (ValueError, ImportError) as error:
        raise _refused(model, str(error).splitlines()[0]) from error
    require_pair_attention(model, way)
    return way


def require_pair_attention(model: PreTrainedModel, way: AttentionWay) -> None:
    """Raise PrefmillError when the language part would run another attention, such as eager, whose mask adds."""
    found = getattr(model.get_decoder().config, "_attn_implementation", None)
    if found != _NAMES[way]:
        raise _refused(model, f"its attention is {found!r}, which does not take the mask of a pair")


def _refused(model: PreTrainedModel, reason: str) -> PrefmillError:
    return PrefmillError(
        f"{type(model).__name__} cannot read a prompt once for two answers: {reason}", "train with backend=trl"
    )


def _has_varlen() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    taken = inspect.signature(varlen_attn).parameters  # older torch knows no window, or no shared heads of keys
    return {"window_size", "enable_gqa"} <= taken.keys() and torch.cuda.get_device_capability() >= (8, 0)


def _require_plain(module: torch.nn.Module, longest: int, kwargs: dict[str, Any]) -> None:
    odd = [name for name in (*_UNKNOWN, "dropout") if kwargs.get(name) is not None]
    window = kwargs.get("sliding_window")
    if window is not None and window < longest:
        odd.append(f"a window of {window} tokens on sequences of {longest}")
    if odd:
        raise PrefmillError(
            f"{type(module).__name__} attends with {', '.join(odd)}, which attention over pairs does not compute",
            "train with backend=trl",
        )


AttentionInterface.register(PAIRS, pair_attention)
AttentionInterface.register(VARLEN, varlen_pair_attention)
