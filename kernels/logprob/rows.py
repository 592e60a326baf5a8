"""Token log-probabilities on a GPU: a library matmul per chunk of rows, and one pass of a kernel over its logits.

The pass reads a row of logits, makes its log-sum-exp, log-probability, entropy and argmax hit, and overwrites the row
with 1_y - p, formed in float32 and cast to the matmul's type; a second matmul with the head's weights turns that into
U = W[y] - softmax . W. So the work is 4NDV, and 4 bytes times the element size move per logit besides the matmuls.

Per lane of a row, the sum of exponentials is kept online with one exponential per element: of exp(m - m') and
exp(z - m'), with m' = max(m, z), one is always 1. Lanes meet once, at the row's end, and no number is ever added in
an order that depends on timing: results repeat bit for bit. The blocks are written in falling order, because those
read last are still in the cache.

Rows of logits begin on multiples of 16 elements, whatever the vocabulary, and what lies between its end and the next
row is read and not counted: so every load is a whole vector. Nothing is read back from the device: a row that is
ignored costs its matmuls alone, a target outside of the vocabulary gives -inf.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..operation import Build
from ..triton_support import argument, blocks, constexpr, jit, tl
from .head import Head, Statistics

_ALIGNED = 16  # elements: 32 or 64 bytes, and what Triton takes for divisible
CHUNK_BYTES = 512 << 20
CHUNK_ROWS = 4096


@jit
def _tanh(x: argument) -> argument:
    """Tanh without cancellation near 0, where Taylor's series to x^13 is exact in float32."""
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    far = tl.where(x < 0, -far, far)
    q = x * x
    near = 21844.0 / 6081075.0 * q - 1382.0 / 155925.0
    near = near * q + 62.0 / 2835.0
    near = near * q - 17.0 / 315.0
    near = near * q + 2.0 / 15.0
    near = near * q - 1.0 / 3.0
    return tl.where(tl.abs(x) < 0.5, x + x * q * near, far)


@jit
def softmax_rows(
    logits: argument,  # [rows, row_stride], of which vocabulary count, overwritten where WRITE
    targets: argument,  # [rows] int64, -1 for no column, -100 for a row of zeros
    scale: argument,  # [rows] float32: factor of the written row
    stats: argument,  # [5, stats_stride] float32: logp, log-sum-exp, peak, entropy, hit
    row_stride: argument,
    vocabulary: argument,
    stats_stride: argument,
    inverse_temperature: argument,
    softcap: argument,
    HAS_SOFTCAP: constexpr,
    HAS_SCALE: constexpr,
    EXTRAS: constexpr,
    WRITE: constexpr,
    BLOCK: constexpr,
    STAGES: constexpr,
) -> None:
    """One row per program; see the module."""
    row = tl.program_id(0).to(tl.int64)
    base = logits + row * row_stride
    target = tl.load(targets + row)
    lanes = tl.arange(0, BLOCK)

    live = target != -100
    named = (target >= 0) & (target < vocabulary)
    owned = tl.where(named, target, 0)
    own = tl.load(base + owned).to(tl.float32)
    own_slope = 1.0
    if HAS_SOFTCAP:
        own_t = _tanh(own / softcap)
        own_slope = 1.0 - own_t * own_t
        own = softcap * own_t
    own = tl.where(named, own * inverse_temperature, -float("inf"))

    # A finite start: -inf - -inf would be no number.
    peak = tl.full([BLOCK], -3.0e38, tl.float32)
    mass = tl.zeros([BLOCK], tl.float32)
    moment = tl.zeros([BLOCK], tl.float32)
    beaten = tl.zeros([BLOCK], tl.int32)
    for start in tl.range(0, tl.where(live, vocabulary, 0), BLOCK, num_stages=STAGES):
        column = start + lanes
        z = tl.load(base + column, mask=column < row_stride, other=0.0).to(tl.float32)
        if HAS_SOFTCAP:
            z = softcap * _tanh(z / softcap)
        z = tl.where((column < vocabulary) & (column != target), z * inverse_temperature, -float("inf"))
        if EXTRAS:
            beaten |= ((z > own) | ((z == own) & (column < target))).to(tl.int32)
        gap = z - peak
        e = tl.exp(-tl.abs(gap))
        rises = gap > 0
        if EXTRAS:
            # sum of exp(z - peak) (z - peak), moved along when the peak rises; exp(-inf) * -inf would be no number
            moment = tl.where(
                rises, e * (moment - mass * tl.where(rises, gap, 0.0)), moment + e * tl.where(e > 0, gap, 0.0)
            )
        mass = tl.where(rises, mass * e + 1.0, mass + e)
        peak = tl.where(rises, z, peak)

    top = tl.maximum(tl.max(peak, 0), own)
    shrink = tl.exp(peak - top)
    others = tl.sum(mass * shrink, 0)
    own_mass = tl.exp(own - top)
    total = others + own_mass
    log_total = tl.log(total)
    logp = tl.minimum(own - top - log_total, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(stats + row, tl.where(live, logp, 0.0))
    tl.store(stats + stats_stride + row, top + log_total)
    tl.store(stats + 2 * stats_stride + row, top)
    if EXTRAS:
        moments = tl.sum(shrink * (moment + mass * (peak - top)), 0)
        moments += own_mass * tl.where(own_mass > 0, own - top, 0.0)
        hit = 1.0 - tl.max(beaten, 0).to(tl.float32)
        tl.store(stats + 3 * stats_stride + row, tl.where(live, log_total - moments / total, 0.0))
        tl.store(stats + 4 * stats_stride + row, tl.where(live, hit, 0.0))

    if WRITE:
        factor = inverse_temperature
        if HAS_SCALE:
            factor *= tl.load(scale + row)
        share = others / total  # 1 - p of the target, without cancellation
        if HAS_SOFTCAP:
            share *= own_slope
        count = tl.cdiv(vocabulary, BLOCK)
        for step in tl.range(0, count, num_stages=STAGES):
            column = (count - 1 - step) * BLOCK + lanes
            inside = column < row_stride
            z = tl.load(base + column, mask=inside, other=0.0).to(tl.float32)
            slope = factor
            if HAS_SOFTCAP:
                t = _tanh(z / softcap)
                slope = factor * (1.0 - t * t)
                z = softcap * t
            p = tl.exp(z * inverse_temperature - top) / total
            value = tl.where(column == target, factor * share, -slope * p)
            tl.store(base + column, tl.where(live, value, 0.0).to(logits.dtype.element_ty), mask=inside)


def chunk_rows(rows: int, vocabulary: int, itemsize: int) -> int:
    """How many of `rows` share one buffer of logits: at most 512 MiB and 4,096 rows, in equal chunks."""
    most = min(CHUNK_ROWS, max(128, CHUNK_BYTES // (vocabulary * itemsize) // 128 * 128))
    return max(1, blocks(rows, max(1, blocks(rows, most))))


class LaunchShape(NamedTuple):
    """Columns per step, warps, and how many steps' loads are under way at once."""

    block: int
    warps: int
    stages: int


def launch_shape(vocabulary: int, *, extras: bool) -> LaunchShape:
    """So that registers let in no more rows than fit into the cache together, for the second reading of each.

    Long rows take a whole multiprocessor each, others a third or a quarter; with entropy and hit a lane has four sums
    instead of two, so a thread has half as many lanes.
    """
    if vocabulary >= 1 << 16:
        return LaunchShape(8192, 32, 3)
    return LaunchShape(2048 if extras else 4096, 8, 2)


def logits_buffer(hidden: torch.Tensor, rows: int, vocabulary: int) -> torch.Tensor:
    """Uninitialised logits [rows, V] whose rows begin on multiples of 16 elements."""
    return hidden.new_empty(rows, blocks(vocabulary, _ALIGNED) * _ALIGNED)[:, :vocabulary]


def residual_rows(
    logits_RV: torch.Tensor,
    head: Head,
    targets_R: torch.Tensor,
    stats_5R: torch.Tensor,
    *,
    scale_R: torch.Tensor | None = None,
    extras: bool = False,
    write: bool = True,
) -> None:
    """Fill in the statistics of a `logits_buffer`; with `write`, it becomes (1_y - p) slope scale / temperature."""
    shape = launch_shape(head.vocabulary, extras=extras)
    softmax_rows[(len(logits_RV),)](
        logits_RV,
        targets_R,
        stats_5R if scale_R is None else scale_R,
        stats_5R,
        logits_RV.stride(0),
        head.vocabulary,
        stats_5R.stride(0),
        head.inverse_temperature,
        1.0 if head.softcap is None else float(head.softcap),
        HAS_SOFTCAP=head.softcap is not None,
        HAS_SCALE=scale_R is not None,
        EXTRAS=extras,
        WRITE=write,
        BLOCK=shape.block,
        STAGES=shape.stages,
        num_warps=shape.warps,
    )


def row_statistics(
    hidden_ND: torch.Tensor, head: Head, targets_N: torch.Tensor, *, residual: bool, extras: bool
) -> Statistics:
    """Statistics of rows [N, D] under a head; see `Statistics`."""
    rows = len(hidden_ND)
    size = chunk_rows(rows, head.vocabulary, hidden_ND.element_size())
    buffer = logits_buffer(hidden_ND, min(rows, size), head.vocabulary)
    weight = head.weight.to(hidden_ND.dtype)
    stats = torch.empty(5, rows, dtype=torch.float32, device=hidden_ND.device)
    to_hidden = torch.empty_like(hidden_ND, dtype=torch.float32) if residual else None
    for start in range(0, rows, size):
        part = slice(start, min(start + size, rows))
        logits = buffer[: part.stop - start]
        head.product(hidden_ND[part], weight, out=logits)
        residual_rows(logits, head, targets_N[part], stats[:, part], extras=extras, write=residual)
        if to_hidden is not None:
            _wide_product(logits, weight, out=to_hidden[part])
    logp, total, peak, entropy, hit = stats
    return Statistics(logp, total, peak, entropy if extras else None, hit > 0.5 if extras else None, to_hidden)


def _wide_product(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> None:
    """A matmul whose sums are not rounded to the factors' type on their way out; only CUDA has it."""
    if left.is_cuda and left.dtype != out.dtype:
        torch.mm(left, right, out_dtype=out.dtype, out=out)
    else:
        out.copy_(torch.mm(left, right))


def _build(name: str, type_: str, vocabulary: int, **flags: bool) -> Build:
    shape = launch_shape(vocabulary, extras=flags.get("EXTRAS", False))
    names = ("HAS_SOFTCAP", "HAS_SCALE", "EXTRAS", "WRITE")
    pointers = {"logits": type_, "targets": "*i64", "scale": "*fp32", "stats": "*fp32"}
    numbers = {
        "row_stride": "i32",
        "vocabulary": "i32",
        "stats_stride": "i32",
        "inverse_temperature": "fp32",
        "softcap": "fp32",
    }
    return Build(
        name=f"softmax_rows {name}",
        kernel=softmax_rows,
        signature={**pointers, **numbers},
        constants={**{flag: flags.get(flag, False) for flag in names}, "BLOCK": shape.block, "STAGES": shape.stages},
        warps=shape.warps,
        divisible=("row_stride",),
    )


BUILDS = (
    _build("bf16 statistics", "*bf16", 32_000),
    _build("bf16 statistics and extras", "*bf16", 32_000, EXTRAS=True),
    _build("bf16 residual", "*bf16", 32_000, WRITE=True),
    _build("bf16 residual and extras", "*bf16", 32_000, WRITE=True, EXTRAS=True),
    _build("bf16 residual, large vocabulary", "*bf16", 128_256, WRITE=True),
    _build("bf16 residual and extras, large vocabulary", "*bf16", 128_256, WRITE=True, EXTRAS=True),
    _build("fp16 residual", "*fp16", 32_000, WRITE=True),
    _build("fp32 residual", "*fp32", 32_000, WRITE=True),
    _build("fp32 residual, large vocabulary", "*fp32", 128_256, WRITE=True),
    _build(
        "bf16 scaled residual, softcap",
        "*bf16",
        32_000,
        WRITE=True,
        HAS_SCALE=True,
        HAS_SOFTCAP=True,
    ),
    _build(
        "bf16 everything, large vocabulary",
        "*bf16",
        128_256,
        WRITE=True,
        HAS_SCALE=True,
        HAS_SOFTCAP=True,
        EXTRAS=True,
    ),
)
