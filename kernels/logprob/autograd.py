"""The pass over the vocabulary as operations that torch knows, with gradients: of the rows, and of a trained head.

d logp_i / d h_i = U_i comes out of the forward pass. For a head that is trained itself, whose gradient needs the
loss's first, dW = sum_i g_i (1_y - p)_i h_i^T over chunks of rows, from the logits made once more, and added up in
float32 (float64 for float64) whatever the type of the rows.

Registered with torch, both stay whole in a compiled graph. Nothing waits for a GPU: values are checked on a CPU only.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from ..registration import register
from ..triton_support import runs_triton
from .head import IGNORED, Head, Statistics
from .rows import chunk_rows, logits_buffer, residual_rows, row_statistics
from .tiles import tile_statistics

_CPU_CHUNK_ELEMENTS = 1 << 22


def check_targets(targets_N: torch.Tensor, vocabulary: int) -> None:
    """Raise ValueError for a target that is neither a column of the head nor -100.

    Reads values: for tensors on the host, by whoever makes the targets.
    """
    kept = targets_N[targets_N != IGNORED]
    if len(kept) and not 0 <= int(kept.min()) <= int(kept.max()) < vocabulary:
        raise ValueError(
            f"targets run from {int(kept.min())} to {int(kept.max())}, the head has {vocabulary} columns; "
            f"mark rows without a target with {IGNORED}"
        )


def statistics(
    hidden_ND: torch.Tensor, head: Head, targets_N: torch.Tensor, *, residual: bool, extras: bool
) -> Statistics:
    """One pass over the vocabulary, on whatever device the rows are."""
    path = row_statistics if runs_triton(hidden_ND) else tile_statistics
    return path(hidden_ND, head, targets_N, residual=residual, extras=extras)


@register("token_statistics")
def token_pass(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    temperature: float,
    softcap: float | None,
    residual: bool,
    extras: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logp [N], entropy [N] and hit [N] (empty without `extras`), and U [N, D] (empty without `residual`)."""
    head = Head(weight, bias, temperature, softcap)
    if hidden.device.type == "cpu":
        check_targets(targets, head.vocabulary)
    got = statistics(hidden, head, targets, residual=residual, extras=extras)
    # the statistics are views of one tensor, which an operation's results may not be
    return (
        got.logp.clone(),
        _nothing(hidden, got.logp.dtype) if got.entropy is None else got.entropy.clone(),
        _nothing(hidden, torch.bool) if got.hit is None else got.hit.clone(),
        _nothing(hidden, got.logp.dtype) if got.residual is None else got.residual,
    )


def _nothing(like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return like.new_empty(0, dtype=dtype)


@token_pass.register_fake
def _token_pass_shapes(
    hidden: Any, weight: Any, bias: Any, targets: Any, temperature: Any, softcap: Any, residual: bool, extras: bool
) -> Any:
    wide = Head(weight, bias, temperature, softcap).wide(hidden)
    rows = len(hidden) if extras else 0
    return (
        hidden.new_empty(len(hidden), dtype=wide),
        hidden.new_empty(rows, dtype=wide),
        hidden.new_empty(rows, dtype=torch.bool),
        torch.empty_like(hidden, dtype=wide) if residual else _nothing(hidden, wide),
    )


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    hidden, weight, bias, targets, *ctx.settings = inputs
    _, entropy, hit, residual = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(entropy, hit, residual)
    ctx.type = hidden.dtype
    trained = any(ctx.needs_input_grad[1:3])
    ctx.save_for_backward(residual, *((hidden, weight, bias, targets) if trained else ()))


@once_differentiable
def _backward(ctx: Any, gradient: Any, *_: Any) -> Any:
    if gradient is None:
        return (None,) * 8
    wants_hidden, *wanted = ctx.needs_input_grad[:3]
    residual, *trained = ctx.saved_tensors
    to_hidden = _scaled(residual, gradient, ctx.type) if wants_hidden else None
    to_head: list[torch.Tensor | None] = [None, None]
    if trained:
        made = head_gradients(*trained, gradient, *ctx.settings[:2], *wanted)
        to_head = [one if want else None for one, want in zip(made, wanted, strict=True)]
    return to_hidden, *to_head, *[None] * 5


token_pass.register_autograd(_backward, setup_context=_remember)


def _scaled(residual_ND: torch.Tensor, gradient_N: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.mul(residual_ND, gradient_N[:, None], out=torch.empty_like(residual_ND, dtype=dtype))


@register("head_gradients")
def head_gradients(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    gradient: torch.Tensor,
    temperature: float,
    softcap: float | None,
    wants_weight: bool,
    wants_bias: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of a head's weight and bias, of those that are not wanted an empty one."""
    head = Head(weight, bias, temperature, softcap)
    hidden, targets, gradient = _without_ignored(hidden, targets, gradient)
    wide = head.wide(hidden)
    to_weight = torch.zeros_like(weight, dtype=wide) if wants_weight else _nothing(weight, wide)
    to_bias = weight.new_zeros(len(weight), dtype=wide) if wants_bias else _nothing(weight, wide)
    factor = weight.to(hidden.dtype)
    size = _chunk(hidden, head)
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        logits = logits_buffer(hidden, len(hidden[part]), head.vocabulary)
        head.product(hidden[part], factor, out=logits)
        if runs_triton(logits):
            unused = logits.new_empty(5, len(logits), dtype=torch.float32)
            residual_rows(logits, head, targets[part], unused, scale_R=gradient[part])
            residual = logits
        else:
            residual = _residual(logits.to(wide), head, targets[part], gradient[part])
        if wants_bias:
            to_bias += residual.sum(0, dtype=wide)
        if wants_weight:
            _add_product(to_weight, residual.to(hidden.dtype), hidden[part])
    return to_weight.to(weight.dtype), to_bias.to(weight.dtype if bias is None else bias.dtype)


@head_gradients.register_fake
def _head_gradients_shapes(hidden: Any, weight: Any, bias: Any, targets: Any, gradient: Any, *settings: Any) -> Any:
    wants_weight, wants_bias = settings[2:]
    return (
        torch.empty_like(weight) if wants_weight else weight.new_empty(0),
        torch.empty_like(bias)
        if wants_bias
        else weight.new_empty(0, dtype=weight.dtype if bias is None else bias.dtype),
    )


@register_flop_formula(torch.ops.prefmill.token_statistics)
def _token_pass_flops(hidden: Any, weight: Any, bias: Any, targets: Any, *settings: Any, **_: Any) -> int:
    """What torch's FlopCounterMode counts: one product of rows and head, and for U a second one."""
    residual = settings[2]
    return (4 if residual else 2) * hidden[0] * weight[0] * weight[1]


@register_flop_formula(torch.ops.prefmill.head_gradients)
def _head_gradients_flops(hidden: Any, weight: Any, *rest: Any, **_: Any) -> int:
    """The logits once more, and the product that the weight's gradient is."""
    wants_weight = rest[-2]
    return (4 if wants_weight else 2) * hidden[0] * weight[0] * weight[1]


def _without_ignored(
    hidden: torch.Tensor, targets: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows that add nothing to a gradient, whatever they hold: gathered out, or where that would mean to wait, 0."""
    ignored = targets == IGNORED
    if runs_triton(hidden):
        return hidden.masked_fill(ignored[:, None], 0), targets, gradient.contiguous()
    return hidden[~ignored], targets[~ignored], gradient[~ignored]


def _chunk(hidden: torch.Tensor, head: Head) -> int:
    if runs_triton(hidden):
        return chunk_rows(len(hidden), head.vocabulary, hidden.element_size())
    return max(16, _CPU_CHUNK_ELEMENTS // head.vocabulary)


def _residual(logits: torch.Tensor, head: Head, targets: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """What `softmax_rows` writes, in torch: (1_y - p) slope scale / temperature of logits [R, V] in the wide type."""
    slope = head.transform_(logits, want_slope=True)
    own = targets[:, None]
    logps = torch.log_softmax(logits, 1)
    residual = logps.exp().neg_()
    residual.scatter_(1, own, -torch.expm1(logps.gather(1, own)))
    if slope is not None:
        residual.mul_(slope)
    return residual.mul_((scale * head.inverse_temperature)[:, None])


def _add_product(total_VD: torch.Tensor, residual_RV: torch.Tensor, hidden_RD: torch.Tensor) -> None:
    """`total += residual^T hidden`, in the total's precision whatever that of the factors."""
    if total_VD.is_cuda and total_VD.dtype != hidden_RD.dtype:
        torch.addmm(total_VD, residual_RV.t(), hidden_RD, out_dtype=total_VD.dtype, out=total_VD)
    else:
        total_VD.addmm_(residual_RV.to(total_VD.dtype).t(), hidden_RD.to(total_VD.dtype))
