"""Token log-probabilities on a CPU, tile by tile of the vocabulary, with one read of the head's weights.

The CPU twin of `rows.py`. A tile of logits [rows, tile] stays in the cache between the two matmuls that use it,
and the softmax is accumulated online over the tiles (Milakov and Gimelshein, arXiv 1805.02867; with the value matmul
as in FlashAttention, arXiv 2205.14135), so that nothing of size rows x V exists.

The target's column is left out of the sums and joins at the end. With S the sum of exp(z) over the other columns and
e = exp(z_y):  1 - p_y = S / (S + e)  and  U = (1 - p_y) W_y - sum_{v != y} p_v W_v,  without the cancellation of
W_y - softmax . W where p_y is near 1. Matmuls run in the inputs' type; all else in float32 (float64 for float64).
"""

import math

import torch

from .head import IGNORED, Head, Statistics

_TILE = 512
_TILE_ELEMENTS = 1 << 20  # 4 MB of float32; from 2 MB to 8 MB it measured the same


def tile_statistics(
    hidden_ND: torch.Tensor, head: Head, targets_N: torch.Tensor, *, residual: bool, extras: bool
) -> Statistics:
    """Statistics of rows [N, D] under a head; see `Statistics`. Ignored rows are gathered out and cost nothing."""
    kept = (targets_N != IGNORED).nonzero().squeeze(1)
    if len(kept) == len(targets_N):
        return _of_all(hidden_ND, head, targets_N, residual=residual, extras=extras)
    got = _of_all(hidden_ND[kept], head, targets_N[kept], residual=residual, extras=extras)
    everywhere = (
        None if field is None else field.new_zeros(len(targets_N), *field.shape[1:]).index_copy_(0, kept, field)
        for field in got
    )
    return Statistics(*everywhere)  # type: ignore[arg-type]


def _of_all(
    hidden_ND: torch.Tensor, head: Head, targets_N: torch.Tensor, *, residual: bool, extras: bool
) -> Statistics:
    rows = len(hidden_ND)
    wide = head.wide(hidden_ND)
    columns = min(max(_TILE, min(hidden_ND.shape[1], 2 * _TILE)), head.vocabulary)
    chunk = max(64, _TILE_ELEMENTS // columns)
    out = Statistics.empty(hidden_ND, wide, residual=residual, extras=extras)
    buffer = torch.empty(min(rows, chunk) * columns, dtype=wide)
    for start in range(0, rows, chunk):
        part = slice(start, min(start + chunk, rows))
        _chunk(hidden_ND[part], head, targets_N[part], out.part(part), buffer, columns)
    return out


class _Running:
    """The sums of a chunk of rows over the columns seen so far, the targets' columns left out."""

    def __init__(self, rows: int, wide: torch.dtype, accumulator: torch.Tensor | None, *, extras: bool) -> None:
        self.peak = torch.full((rows,), torch.finfo(wide).min, dtype=wide)  # finite: -inf - -inf is no number
        self.mass = torch.zeros(rows, dtype=wide)  # sum of exp(z - peak)
        self.moment = torch.zeros(rows, dtype=wide) if extras else None  # sum of exp(z - peak) (z - peak)
        self.own = torch.full((rows,), -math.inf, dtype=wide)  # the target's logit
        self.own_slope = torch.ones(rows, dtype=wide)
        self.before = torch.full((rows,), -math.inf, dtype=wide)  # the largest logit left of the target
        self.after = torch.full((rows,), -math.inf, dtype=wide)
        self.weighted = accumulator  # sum of exp(z - peak) W

    def rescale(self, peak: torch.Tensor) -> None:
        shrink = torch.exp(self.peak - peak)
        if self.moment is not None:
            self.moment.add_(self.mass * (self.peak - peak)).mul_(shrink)
        self.mass.mul_(shrink)
        if self.weighted is not None and bool((shrink != 1).any()):
            self.weighted.mul_(shrink[:, None])
        self.peak = peak


def _chunk(
    hidden: torch.Tensor, head: Head, targets: torch.Tensor, out: Statistics, buffer: torch.Tensor, columns: int
) -> None:
    rows, wide = len(hidden), buffer.dtype
    half = hidden.dtype != wide
    accumulator = None if out.residual is None else out.residual.zero_()
    running = _Running(rows, wide, accumulator, extras=out.entropy is not None)
    narrow = torch.empty(len(buffer) if half else 0, dtype=hidden.dtype)
    product = torch.empty_like(hidden) if half and accumulator is not None else None
    for first in range(0, head.vocabulary, columns):
        last = min(first + columns, head.vocabulary)
        weight = head.weight[first:last].to(hidden.dtype)
        logits = buffer[: rows * (last - first)].view(rows, last - first)
        rounded = narrow[: logits.numel()].view_as(logits) if half else logits
        head.product(hidden, weight, first, out=rounded)
        if half:
            logits.copy_(rounded)
        slope = head.transform_(logits, want_slope=accumulator is not None)
        _fold(running, logits, slope, targets, first)
        if accumulator is None:
            continue
        if slope is not None:
            logits.mul_(slope)
        if product is None:
            accumulator.addmm_(logits, weight)
        else:
            rounded.copy_(logits)
            accumulator.add_(torch.mm(rounded, weight, out=product))
    _finish(running, head, targets, out)


def _fold(
    running: _Running, logits: torch.Tensor, slope: torch.Tensor | None, targets: torch.Tensor, first: int
) -> None:
    """Add a tile's columns; leaves exp(z - peak) in it, with 0 at the targets."""
    width = logits.shape[1]
    local = targets - first
    index = ((local >= 0) & (local < width)).nonzero().squeeze(1)
    place = local[index]
    running.own[index] = logits[index, place]
    if slope is not None:
        running.own_slope[index] = slope[index, place]
    logits[index, place] = -math.inf
    peak = logits.amax(1)
    if running.moment is not None:
        left = torch.arange(width) < place[:, None]
        rivals = logits[index]
        minus = torch.full_like(peak, -math.inf)
        before, after = torch.where(local >= width, peak, minus), torch.where(local < 0, peak, minus)
        before[index] = rivals.masked_fill(~left, -math.inf).amax(1)
        after[index] = rivals.masked_fill(left, -math.inf).amax(1)
        torch.maximum(running.before, before, out=running.before)
        torch.maximum(running.after, after, out=running.after)
    running.rescale(torch.maximum(running.peak, peak))
    logits.sub_(running.peak[:, None]).exp_()
    running.mass.add_(logits.sum(1))
    if running.moment is not None:
        running.moment.add_(torch.xlogy(logits, logits).sum(1))


def _finish(running: _Running, head: Head, targets: torch.Tensor, out: Statistics) -> None:
    """Let the target's column join, and write the chunk's results."""
    top = torch.maximum(running.peak, running.own)
    shrink = torch.exp(running.peak - top)
    own_mass = torch.exp(running.own - top)
    others = running.mass * shrink
    total = others + own_mass
    out.logp.copy_(((running.own - top) - total.log()).clamp_(max=0))
    out.total.copy_(top + total.log())
    out.peak.copy_(top)
    if out.entropy is not None and out.hit is not None and running.moment is not None:
        moment = shrink * running.moment + others * (running.peak - top)
        own_moment = torch.where(own_mass > 0, own_mass * (running.own - top), 0.0)
        out.entropy.copy_(total.log() - (moment + own_moment) / total)
        out.hit.copy_((running.own > running.before) & (running.own >= running.after))
    if running.weighted is not None:
        scale = head.inverse_temperature
        share = torch.where(targets >= 0, others / total * running.own_slope, 0.0) * scale
        running.weighted.mul_((-scale * shrink / total)[:, None])
        running.weighted.addcmul_(head.weight[targets.clamp(min=0)].to(share.dtype), share[:, None])
