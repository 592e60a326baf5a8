"""The Triton kernel of preference losses: one program per pair sums its segments, then weighs them.

The derivatives are written out, not taken by autograd; `preference` says which formulas these are.
"""

from __future__ import annotations

from typing import Any

import torch

from ..operation import Build
from ..triton_support import argument, constexpr, jit, tl

LOSSES = ("sigmoid", "robust", "hinge", "ipo", "sigmoid_norm", "apo_zero", "apo_down")
_BLOCK, _WARPS = 256, 2


@jit
def _log_sigmoid(x: argument) -> argument:
    """Without overflow, and with the digits of log(1 + e) where e is small."""
    e = tl.exp(-tl.abs(x))
    return tl.minimum(x, 0.0) - tl.where(e < 1e-3, e * (1.0 - e * (0.5 - e / 3.0)), tl.log(1.0 + e))


@jit
def _segment(
    logps: argument, reference: argument, borders: argument, segment: argument, SUMMED: constexpr, BLOCK: constexpr
) -> argument:
    """Sum, reference sum and number of tokens of one segment."""
    first = tl.load(borders + segment)
    last = tl.load(borders + segment + 1)
    lanes = tl.arange(0, BLOCK)
    own = tl.zeros([BLOCK], tl.float32)
    other = tl.zeros([BLOCK], tl.float32)
    for start in range(first, last, BLOCK):
        inside = start + lanes < last
        own += tl.load(logps + start + lanes, mask=inside, other=0.0).to(tl.float32)
        if not SUMMED:
            other += tl.load(reference + start + lanes, mask=inside, other=0.0).to(tl.float32)
    total = tl.sum(own, 0)
    other_total = tl.sum(other, 0)
    if SUMMED:
        other_total = tl.load(reference + segment).to(tl.float32)
    return total, other_total, (last - first).to(tl.float32)


@jit
def preference_pairs(
    logps: argument,  # [N]
    reference: argument,  # [N], or [S] where SUMMED
    borders: argument,  # [S + 1] int64
    per_pair: argument,  # [5, B]: loss, chosen reward, rejected reward, margin, accuracy
    per_segment: argument,  # [4, S]: derivative of the loss, sum, mean, tokens
    pairs: argument,
    beta: argument,
    smoothing: argument,
    image_weight: argument,
    anchor_weight: argument,
    anchor_margin: argument,
    LOSS: constexpr,  # place in LOSSES
    IMAGE: constexpr,
    SUMMED: constexpr,
    BLOCK: constexpr,
) -> None:
    """One pair per program; see the module."""
    pair = tl.program_id(0).to(tl.int64)
    sum_c, reference_c, tokens_c = _segment(logps, reference, borders, pair, SUMMED, BLOCK)
    sum_r, reference_r, tokens_r = _segment(logps, reference, borders, pairs + pair, SUMMED, BLOCK)
    c, r = sum_c - reference_c, sum_r - reference_r
    x = beta * (c - r)
    if LOSS <= 1:
        sign = 1.0 if LOSS == 0 else -1.0
        scale = 1.0 if LOSS == 0 else 1.0 / (1.0 - 2.0 * smoothing)
        loss = -scale * ((1.0 - smoothing) * _log_sigmoid(x) + sign * smoothing * _log_sigmoid(-x))
        slope = -beta * scale * ((1.0 - smoothing) * tl.sigmoid(-x) - sign * smoothing * tl.sigmoid(x))
        slope_c, slope_r = slope, -slope
    elif LOSS == 2:
        loss = tl.maximum(1.0 - x, 0.0, propagate_nan=tl.PropagateNan.ALL)
        slope = tl.where(x < 1.0, -beta, 0.0)
        slope_c, slope_r = slope, -slope
    elif LOSS <= 4:
        mean_delta = c / tokens_c - r / tokens_r
        if LOSS == 3:
            gap = mean_delta - 0.5 / beta
            loss = gap * gap
            slope = 2.0 * gap
        else:
            loss = -_log_sigmoid(beta * mean_delta)
            slope = -beta * tl.sigmoid(-beta * mean_delta)
        slope_c, slope_r = slope / tokens_c, -slope / tokens_r
    elif LOSS == 5:
        loss = tl.sigmoid(-beta * c) + tl.sigmoid(beta * r)
        slope_c = -beta * tl.sigmoid(beta * c) * tl.sigmoid(-beta * c)
        slope_r = beta * tl.sigmoid(beta * r) * tl.sigmoid(-beta * r)
    else:
        loss = tl.sigmoid(beta * c) + tl.sigmoid(-x)
        slope_r = beta * tl.sigmoid(x) * tl.sigmoid(-x)
        slope_c = beta * tl.sigmoid(beta * c) * tl.sigmoid(-beta * c) - slope_r

    segments = pairs * (3 if IMAGE else 2)
    if IMAGE:
        corrupted = 2 * pairs + pair
        sum_k, reference_k, tokens_k = _segment(logps, reference, borders, corrupted, SUMMED, BLOCK)
        y = beta * (c - (sum_k - reference_k))
        loss -= image_weight * _log_sigmoid(y)
        slope_k = image_weight * beta * tl.sigmoid(-y)
        slope_c -= slope_k
        tl.store(per_segment + corrupted, slope_k)
        tl.store(per_segment + segments + corrupted, sum_k)
        tl.store(per_segment + 2 * segments + corrupted, sum_k / tokens_k)
        tl.store(per_segment + 3 * segments + corrupted, tokens_k)
    if anchor_weight != 0:
        anchored = beta * c - anchor_margin
        loss -= anchor_weight * _log_sigmoid(anchored)
        slope_c -= anchor_weight * beta * tl.sigmoid(-anchored)

    tl.store(per_pair + pair, loss)
    tl.store(per_pair + pairs + pair, beta * c)
    tl.store(per_pair + 2 * pairs + pair, beta * r)
    tl.store(per_pair + 3 * pairs + pair, x)
    tl.store(per_pair + 4 * pairs + pair, tl.where(x > 0, 1.0, 0.0))
    tl.store(per_segment + pair, slope_c)
    tl.store(per_segment + pairs + pair, slope_r)
    tl.store(per_segment + segments + pair, sum_c)
    tl.store(per_segment + segments + pairs + pair, sum_r)
    tl.store(per_segment + 2 * segments + pair, sum_c / tokens_c)
    tl.store(per_segment + 2 * segments + pairs + pair, sum_r / tokens_r)
    tl.store(per_segment + 3 * segments + pair, tokens_c)
    tl.store(per_segment + 3 * segments + pairs + pair, tokens_r)


def launch(
    logps_N: torch.Tensor,
    reference: torch.Tensor,
    borders: torch.Tensor,
    pairs: int,
    summed: bool,
    settings: tuple[Any, ...],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers per pair [5, B] and per segment [4, S], as the kernel lays them out."""
    loss, *numbers = settings
    per_pair = torch.empty(5, pairs, dtype=torch.float32, device=logps_N.device)
    per_segment = torch.empty(4, len(borders) - 1, dtype=torch.float32, device=logps_N.device)
    preference_pairs[(pairs,)](
        logps_N.contiguous(),
        reference.contiguous(),
        borders,
        per_pair,
        per_segment,
        pairs,
        *(float(number) for number in numbers),
        LOSS=LOSSES.index(loss),
        IMAGE=bool(settings[3]),
        SUMMED=summed,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return per_pair, per_segment


def _build(loss: str, *, image: bool, summed: bool, type_: str = "*fp32") -> Build:
    numbers = ("beta", "smoothing", "image_weight", "anchor_weight", "anchor_margin")
    outputs = {"borders": "*i64", "per_pair": "*fp32", "per_segment": "*fp32", "pairs": "i32"}
    return Build(
        name=f"preference_pairs {loss}{' image' * image}{' summed' * summed} {type_[1:]}",
        kernel=preference_pairs,
        signature={"logps": type_, "reference": "*fp32", **outputs, **dict.fromkeys(numbers, "fp32")},
        constants={"LOSS": LOSSES.index(loss), "IMAGE": image, "SUMMED": summed, "BLOCK": _BLOCK},
        warps=_WARPS,
    )


BUILDS = (
    *(_build(loss, image=False, summed=True) for loss in LOSSES),
    _build("sigmoid", image=True, summed=True),
    _build("sigmoid", image=True, summed=False),
    _build("sigmoid", image=False, summed=False, type_="*bf16"),
)
