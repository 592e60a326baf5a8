"""The Triton kernel of preference losses: one program per pair sums its segments, then weighs them.

`formulas.py` says which losses these are. A segment without tokens, which the host refuses (`check_segments`), makes
its pair's loss NaN here: to raise would mean to wait for the device.
"""

from __future__ import annotations

import torch

from ..operation import Build
from ..triton_support import argument, constexpr, jit, tl
from .formulas import LOSSES, TAU, Terms

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
def _by_delta(x: argument, smoothing: argument, LOSS: constexpr, TAU: constexpr) -> argument:
    """Losses of x = beta (c - r) alone, and their derivatives by it."""
    up, down = tl.sigmoid(x), tl.sigmoid(-x)
    if LOSS <= 1:
        sign = 1.0 if LOSS == 0 else -1.0
        scale = 1.0 if LOSS == 0 else 1.0 / (1.0 - 2.0 * smoothing)
        loss = -scale * ((1.0 - smoothing) * _log_sigmoid(x) + sign * smoothing * _log_sigmoid(-x))
        slope = -scale * ((1.0 - smoothing) * down - sign * smoothing * up)
    elif LOSS == 2:
        log_wins, log_loses = tl.log(1.0 - smoothing), tl.log(smoothing)
        loss = up * (_log_sigmoid(x) - log_wins) + down * (_log_sigmoid(-x) - log_loses)
        slope = up * down * (x - log_wins + log_loses)
    elif LOSS == 3:
        loss = tl.maximum(1.0 - x, 0.0, propagate_nan=tl.PropagateNan.ALL)
        slope = tl.where(x < 1.0, -1.0, 0.0)
    else:
        burst = tl.exp(_log_sigmoid(x / TAU) - x)
        rest = tl.sigmoid(-x / TAU)
        loss = burst - rest * _log_sigmoid(x)
        slope = burst * (rest / TAU - 1.0) + rest * (tl.sigmoid(x / TAU) / TAU * _log_sigmoid(x) - down)
    return loss, slope


@jit
def _by_both(c: argument, r: argument, beta: argument, LOSS: constexpr) -> argument:
    """Losses of c and r apart, and their derivatives by both."""
    up_c, down_c = tl.sigmoid(beta * c), tl.sigmoid(-beta * c)
    up_r = tl.sigmoid(beta * r)
    if LOSS == 6:
        loss = -_log_sigmoid(beta * c) - 0.5 * (_log_sigmoid(-beta * c) + _log_sigmoid(-beta * r))
        slope_c, slope_r = beta * (0.5 * up_c - down_c), 0.5 * beta * up_r
    elif LOSS == 7:
        loss = -_log_sigmoid(beta * c) - _log_sigmoid(-beta * r)
        slope_c, slope_r = -beta * down_c, beta * up_r
    elif LOSS == 8:
        high, low = c - 0.5 / beta, r + 0.5 / beta
        loss = high * high + low * low
        slope_c, slope_r = 2.0 * high, 2.0 * low
    elif LOSS == 9:
        loss = down_c + up_r
        slope_c, slope_r = -beta * up_c * down_c, beta * up_r * tl.sigmoid(-beta * r)
    else:
        x = beta * (c - r)
        loss = up_c + tl.sigmoid(-x)
        slope_r = beta * tl.sigmoid(x) * tl.sigmoid(-x)
        slope_c = beta * up_c * down_c - slope_r
    return loss, slope_c, slope_r


@jit
def preference_pairs(
    logps: argument,  # [N]
    reference: argument,  # [N], or [S] where SUMMED
    borders: argument,  # [S + 1] int64
    losses: argument,  # [B]
    per_pair: argument,  # [4, B]: chosen reward, rejected reward, margin, accuracy
    per_segment: argument,  # [4, S]: derivative of the loss, sum, mean, tokens
    pairs: argument,
    beta: argument,
    smoothing: argument,
    image_weight: argument,
    anchor_weight: argument,
    anchor_margin: argument,
    LOSS: constexpr,  # place in LOSSES
    TAU: constexpr,
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
    if LOSS <= 3 or LOSS == 11:
        loss, slope = _by_delta(x, smoothing, LOSS, TAU)
        slope_c, slope_r = beta * slope, -beta * slope
    elif LOSS <= 5:
        mean_delta = c / tokens_c - r / tokens_r
        if LOSS == 4:
            gap = mean_delta - 0.5 / beta
            loss = gap * gap
            slope = 2.0 * gap
        else:
            loss = -_log_sigmoid(beta * mean_delta)
            slope = -beta * tl.sigmoid(-beta * mean_delta)
        slope_c, slope_r = slope / tokens_c, -slope / tokens_r
    elif LOSS <= 10:
        loss, slope_c, slope_r = _by_both(c, r, beta, LOSS)
    else:
        share = pairs / (tl.load(borders + pairs) - tl.load(borders)).to(tl.float32)  # of a mean over chosen tokens
        loss = -share * sum_c
        slope_c, slope_r = -share, 0.0
    loss = tl.where((tokens_c > 0) & (tokens_r > 0), loss, float("nan"))

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

    tl.store(losses + pair, loss)
    tl.store(per_pair + pair, beta * c)
    tl.store(per_pair + pairs + pair, beta * r)
    tl.store(per_pair + 2 * pairs + pair, x)
    tl.store(per_pair + 3 * pairs + pair, tl.where(x > 0, 1.0, 0.0))
    tl.store(per_segment + pair, slope_c)
    tl.store(per_segment + pairs + pair, slope_r)
    tl.store(per_segment + segments + pair, sum_c)
    tl.store(per_segment + segments + pairs + pair, sum_r)
    tl.store(per_segment + 2 * segments + pair, sum_c / tokens_c)
    tl.store(per_segment + 2 * segments + pairs + pair, sum_r / tokens_r)
    tl.store(per_segment + 3 * segments + pair, tokens_c)
    tl.store(per_segment + 3 * segments + pairs + pair, tokens_r)


def launch(
    logps_N: torch.Tensor, reference: torch.Tensor, borders: torch.Tensor, pairs: int, summed: bool, terms: Terms
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses [B], numbers per pair [4, B] and per segment [4, S], as the kernel lays them out."""
    loss, *numbers = terms
    device = logps_N.device
    losses = torch.empty(pairs, dtype=torch.float32, device=device)
    per_pair = torch.empty(4, pairs, dtype=torch.float32, device=device)
    per_segment = torch.empty(4, len(borders) - 1, dtype=torch.float32, device=device)
    preference_pairs[(pairs,)](
        logps_N.contiguous(),
        reference.contiguous(),
        borders,
        losses,
        per_pair,
        per_segment,
        pairs,
        *numbers,
        LOSS=LOSSES.index(loss),
        TAU=TAU,
        IMAGE=terms.image_weight != 0,
        SUMMED=summed,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return losses, per_pair, per_segment


def _build(loss: str, *, image: bool, summed: bool, type_: str = "*fp32") -> Build:
    numbers = ("beta", "smoothing", "image_weight", "anchor_weight", "anchor_margin")
    outputs = {"borders": "*i64", "losses": "*fp32", "per_pair": "*fp32", "per_segment": "*fp32", "pairs": "i32"}
    return Build(
        name=f"preference_pairs {loss}{' image' * image}{' summed' * summed} {type_[1:]}",
        kernel=preference_pairs,
        signature={"logps": type_, "reference": "*fp32", **outputs, **dict.fromkeys(numbers, "fp32")},
        constants={"LOSS": LOSSES.index(loss), "TAU": TAU, "IMAGE": image, "SUMMED": summed, "BLOCK": _BLOCK},
        warps=_WARPS,
    )


BUILDS = (
    *(_build(loss, image=False, summed=True) for loss in LOSSES),
    _build("sigmoid", image=True, summed=True),
    _build("sigmoid", image=True, summed=False),
    _build("sigmoid", image=False, summed=False, type_="*bf16"),
)
