"""The Triton kernels of `guided_step`: the step with its log-probability, and the way back to the velocities.

A sample's squares are added up per block into [B, blocks], and those by torch, in a fixed order: the result repeats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..operation import Build
from ..triton_support import argument, blocks, constexpr, jit, tl

_BLOCK, _WARPS = 2048, 8


class Coefficients(NamedTuple):
    """Per sample [B], float32: mean = keep x + move v, spread k of the noise, guidance w."""

    keep: torch.Tensor
    move: torch.Tensor
    spread: torch.Tensor
    guidance: torch.Tensor


@jit
def flow_step(
    sample: argument,  # [B, count], as prompted, unprompted, other, following
    prompted: argument,
    unprompted: argument,
    other: argument,  # noise, or the given next sample
    keep: argument,  # [B] float32, as move, spread, guidance
    move: argument,
    spread: argument,
    guidance: argument,
    following: argument,
    mean: argument,  # [B, count] float32
    partial: argument,  # [B, blocks] float32: sums of ((x' - mean) / spread)^2
    count: argument,
    DRAW: constexpr,
    GIVEN: constexpr,
    BLOCK: constexpr,
) -> None:
    """One block of one sample per program; Euler's step where neither DRAW nor GIVEN."""
    row = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    here = row.to(tl.int64) * count + place
    x = tl.load(sample + here, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(unprompted + here, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(prompted + here, mask=inside, other=0.0).to(tl.float32)
    v = u + tl.load(guidance + row) * (c - u)
    middle = x * tl.load(keep + row) + v * tl.load(move + row)
    if DRAW:
        k = tl.load(spread + row)
        z = tl.load(other + here, mask=inside, other=0.0).to(tl.float32)
        drawn = (middle + k * z).to(following.dtype.element_ty)
        tl.store(following + here, drawn, mask=inside)
        tl.store(mean + here, middle, mask=inside)
        distance = (drawn.to(tl.float32) - middle) / k  # of x' as it is stored, rounded
        tl.store(
            partial + row * tl.num_programs(0) + tl.program_id(0), tl.sum(tl.where(inside, distance * distance, 0.0), 0)
        )
    elif GIVEN:
        stored = tl.load(other + here, mask=inside, other=0.0).to(tl.float32)
        tl.store(mean + here, middle, mask=inside)
        distance = (stored - middle) / tl.load(spread + row)
        tl.store(
            partial + row * tl.num_programs(0) + tl.program_id(0), tl.sum(tl.where(inside, distance * distance, 0.0), 0)
        )
    else:
        tl.store(following + here, middle.to(following.dtype.element_ty), mask=inside)


@jit
def flow_step_backward(
    following: argument,  # [B, count]
    mean: argument,  # [B, count] float32, as to_mean
    to_logp: argument,  # [B] float32, as move, spread, guidance
    to_mean: argument,
    move: argument,
    spread: argument,
    guidance: argument,
    to_prompted: argument,
    to_unprompted: argument,
    count: argument,
    BLOCK: constexpr,
) -> None:
    """Gradients by both velocities from those by logp and mean."""
    row = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    here = row.to(tl.int64) * count + place
    k = tl.load(spread + row)
    distance = tl.load(following + here, mask=inside, other=0.0).to(tl.float32)
    distance -= tl.load(mean + here, mask=inside, other=0.0)
    gradient = tl.load(to_logp + row) * distance / (k * k * count)
    gradient += tl.load(to_mean + here, mask=inside, other=0.0)
    gradient *= tl.load(move + row)
    w = tl.load(guidance + row)
    tl.store(to_prompted + here, (gradient * w).to(to_prompted.dtype.element_ty), mask=inside)
    tl.store(to_unprompted + here, (gradient * (1.0 - w)).to(to_unprompted.dtype.element_ty), mask=inside)


def launch_step(
    sample: torch.Tensor,
    prompted: torch.Tensor,
    unprompted: torch.Tensor,
    rates: Coefficients,
    *,
    noise: torch.Tensor | None,
    given: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x' (the given one where given), partial sums of squares [B, blocks] and mean; the last two for the SDE only."""
    batch, count = len(sample), sample[0].numel()
    programs = blocks(count, _BLOCK)
    following = torch.empty_like(sample, memory_format=torch.contiguous_format) if given is None else given
    stochastic = noise is not None or given is not None
    mean = torch.empty(sample.shape if stochastic else (1,), dtype=torch.float32, device=sample.device)
    partial = torch.empty(batch, programs, dtype=torch.float32, device=sample.device)
    other = noise if noise is not None else following
    flow_step[(programs, batch)](
        sample.contiguous(),
        prompted.contiguous(),
        unprompted.contiguous(),
        other.contiguous(),
        *(rate.to(sample.device) for rate in rates),
        following,
        mean,
        partial,
        count,
        DRAW=noise is not None,
        GIVEN=given is not None,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return following, partial, mean


def launch_backward(
    following: torch.Tensor,
    mean: torch.Tensor,
    rates: Coefficients,
    to_logp: torch.Tensor,
    to_mean: torch.Tensor,
    types: tuple[torch.dtype, torch.dtype],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients by the prompted and the unprompted velocity, in their types."""
    batch, count = len(mean), mean[0].numel()
    grads = tuple(torch.empty_like(mean, dtype=dtype) for dtype in types)
    flow_step_backward[(blocks(count, _BLOCK), batch)](
        following.contiguous(),
        mean,
        to_logp.contiguous(),
        to_mean.contiguous(),
        rates.move,
        rates.spread,
        rates.guidance,
        *grads,
        count,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return grads[0], grads[1]


def _step_build(name: str, type_: str, *, draw: bool = False, given: bool = False) -> Build:
    tensors = dict.fromkeys(("sample", "prompted", "unprompted", "other"), type_)
    rates = dict.fromkeys(("keep", "move", "spread", "guidance"), "*fp32")
    outputs = {"following": type_, "mean": "*fp32", "partial": "*fp32", "count": "i32"}
    return Build(
        name=f"flow_step {name} {type_[1:]}",
        kernel=flow_step,
        signature={**tensors, **rates, **outputs},
        constants={"DRAW": draw, "GIVEN": given, "BLOCK": _BLOCK},
        warps=_WARPS,
        divisible=("count",),
    )


def _backward_build(type_: str) -> Build:
    wide = dict.fromkeys(("mean", "to_logp", "to_mean", "move", "spread", "guidance"), "*fp32")
    return Build(
        name=f"flow_step_backward {type_[1:]}",
        kernel=flow_step_backward,
        signature={"following": type_, **wide, "to_prompted": type_, "to_unprompted": type_, "count": "i32"},
        constants={"BLOCK": _BLOCK},
        warps=_WARPS,
        divisible=("count",),
    )


EULER_BUILDS = tuple(_step_build("euler", type_) for type_ in ("*fp32", "*bf16", "*fp16"))
STOCHASTIC_BUILDS = (
    *(_step_build("draw", type_, draw=True) for type_ in ("*fp32", "*bf16")),
    *(_step_build("evaluate", type_, given=True) for type_ in ("*fp32", "*bf16")),
    *(_backward_build(type_) for type_ in ("*fp32", "*bf16")),
)
