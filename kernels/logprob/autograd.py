"""The gradients of token log-probabilities: of the rows, and of a head that is trained itself.

d logp_i / d h_i = U_i comes out of the forward pass. For the head, dW = sum_i g_i (1_y - p)_i h_i^T over chunks of
rows, added up in float32 (float64 for float64) whatever the type of the rows.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ..triton_support import runs_triton
from .head import Head, Statistics
from .rows import chunk_rows, residual_rows, row_statistics
from .tiles import tile_statistics

_CPU_CHUNK_ELEMENTS = 1 << 22


def statistics(
    hidden_ND: torch.Tensor, head: Head, targets_N: torch.Tensor, *, residual: bool, extras: bool
) -> Statistics:
    """One pass over the vocabulary, on whatever device the rows are; targets of -1 belong to no column."""
    path = row_statistics if runs_triton(hidden_ND) else tile_statistics
    return path(hidden_ND, head, targets_N, residual=residual, extras=extras)


class FrozenHead(torch.autograd.Function):
    """U in the forward, one scale per row in the backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, bias: Any, targets: Any, *settings: Any) -> Any:
        temperature, softcap, extras = settings
        head = Head(weight, bias, temperature, softcap)
        got = statistics(hidden, head, targets, residual=True, extras=extras)
        ctx.save_for_backward(got.residual)
        ctx.type = hidden.dtype
        return _outputs(ctx, got, extras=extras)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # type: ignore[override]
        (residual,) = ctx.saved_tensors
        return _scaled(residual, gradients[0], ctx.type), *[None] * 6


class TrainedHead(torch.autograd.Function):
    """The same for hidden; for weight and bias, whose gradients need the loss's first, the logits once more."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, bias: Any, targets: Any, *settings: Any) -> Any:
        temperature, softcap, extras = settings
        ctx.settings = (temperature, softcap)
        head = Head(weight, bias, temperature, softcap)
        got = statistics(hidden, head, targets, residual=ctx.needs_input_grad[0], extras=extras)
        ctx.save_for_backward(hidden, weight, bias, targets, got.residual)
        return _outputs(ctx, got, extras=extras)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # type: ignore[override]
        hidden, weight, bias, targets, to_hidden = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        head = Head(weight, bias, *ctx.settings)
        wide = head.wide(hidden)
        _, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        to_weight = torch.zeros_like(weight, dtype=wide) if wants_weight else None
        to_bias = torch.zeros_like(bias, dtype=wide) if wants_bias else None
        factor = weight.to(hidden.dtype)
        size = _chunk(hidden, head)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            logits = hidden.new_empty(len(hidden[part]), head.vocabulary)
            head.product(hidden[part], factor, out=logits)
            if runs_triton(logits):
                residual_rows(logits, head, targets[part], scale_R=gradient[part])
                residual = logits
            else:
                residual = _residual(logits.to(wide), head, targets[part], gradient[part])
            if to_bias is not None:
                to_bias += residual.sum(0, dtype=wide)
            if to_weight is not None:
                _add_product(to_weight, residual.to(hidden.dtype), hidden[part])
        to_weight = None if to_weight is None else to_weight.to(weight.dtype)
        to_bias = None if to_bias is None else to_bias.to(bias.dtype)
        to_hidden = None if to_hidden is None else _scaled(to_hidden, gradient, hidden.dtype)
        return to_hidden, to_weight, to_bias, *[None] * 4


def _scaled(residual_ND: torch.Tensor, gradient_N: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.mul(residual_ND, gradient_N[:, None], out=torch.empty_like(residual_ND, dtype=dtype))


def _outputs(ctx: Any, got: Statistics, *, extras: bool) -> tuple[torch.Tensor | None, ...]:
    if not extras:
        return (got.logp,)
    ctx.mark_non_differentiable(got.entropy, got.hit)
    return got.logp, got.entropy, got.hit


def _chunk(hidden: torch.Tensor, head: Head) -> int:
    if hidden.is_cuda:
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
