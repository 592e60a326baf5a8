"""The best and the worst of each group's scores, on the device: which answer is chosen, which rejected, by how much.

A score that is NaN is absent (a failed candidate). Equal scores go to the first, and are flagged: a tie is a fact
about the group that a preference pair should not hide.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .operation import Build, Case, Inputs, Mode, Op
from .triton_support import argument, blocks, constexpr, jit, power_of_two, runs_triton, tl

_ROWS, _WARPS = 32, 4


class Extremes(NamedTuple):
    """Per group [G]: the places of the largest and the smallest score (int64, -1 where all are NaN), the margin
    between them (float32, NaN where all are), and whether another score equals the largest or the smallest."""

    best: torch.Tensor
    worst: torch.Tensor
    margin: torch.Tensor
    best_tied: torch.Tensor
    worst_tied: torch.Tensor


@jit
def group_extremes(
    scores: argument,  # [G, K]
    best: argument,  # [G] int64, as worst
    worst: argument,
    margin: argument,  # [G] float32
    best_tied: argument,  # [G] int8, as worst_tied
    worst_tied: argument,
    groups: argument,
    size: argument,
    ROWS: constexpr,
    COLUMNS: constexpr,
) -> None:
    """ROWS groups per program; see the module."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row < groups)[:, None] & (column < size)[None, :]
    value = tl.load(scores + row[:, None] * size + column[None, :], mask=inside, other=float("nan")).to(tl.float32)
    present = value <= float("inf")  # all but NaN
    # places of the first extreme, found by value and then by the smallest place, so that ties are plain to see
    high = tl.max(tl.where(present, value, -float("inf")), 1)
    low = tl.min(tl.where(present, value, float("inf")), 1)
    top = present & (value == high[:, None])
    bottom = present & (value == low[:, None])
    tops = tl.sum(top.to(tl.int32), 1)
    bottoms = tl.sum(bottom.to(tl.int32), 1)
    first_top = tl.min(tl.where(top, column[None, :], COLUMNS), 1)
    first_bottom = tl.min(tl.where(bottom, column[None, :], COLUMNS), 1)
    kept = row < groups
    any_present = tops > 0
    tl.store(best + row, tl.where(any_present, first_top, -1).to(tl.int64), mask=kept)
    tl.store(worst + row, tl.where(any_present, first_bottom, -1).to(tl.int64), mask=kept)
    tl.store(margin + row, tl.where(any_present, high - low, float("nan")), mask=kept)
    tl.store(best_tied + row, (tops > 1).to(tl.int8), mask=kept)
    tl.store(worst_tied + row, (bottoms > 1).to(tl.int8), mask=kept)


def extremes(scores_GK: torch.Tensor) -> Extremes:
    """Best and worst of every group of scores [G, K]. Raises ValueError for another shape, or K of 0."""
    _check(scores_GK)
    if not runs_triton(scores_GK):
        return extremes_reference(scores_GK)
    groups, size = scores_GK.shape
    device = scores_GK.device
    places = torch.empty(2, groups, dtype=torch.int64, device=device)
    margin = torch.empty(groups, dtype=torch.float32, device=device)
    tied = torch.empty(2, groups, dtype=torch.int8, device=device)
    group_extremes[(blocks(groups, _ROWS),)](
        scores_GK.contiguous(),
        *places,
        margin,
        *tied,
        groups,
        size,
        ROWS=_ROWS,
        COLUMNS=power_of_two(size),
        num_warps=_WARPS,
    )
    return Extremes(places[0], places[1], margin, tied[0].bool(), tied[1].bool())


def extremes_reference(scores_GK: torch.Tensor) -> Extremes:
    """The same in plain torch."""
    _check(scores_GK)
    scores = scores_GK.float()
    present = ~scores.isnan()
    found = present.any(1)
    high = scores.masked_fill(~present, -torch.inf).amax(1)
    low = scores.masked_fill(~present, torch.inf).amin(1)
    tops, bottoms = present & (scores == high[:, None]), present & (scores == low[:, None])
    absent = torch.full_like(found, -1, dtype=torch.int64)
    return Extremes(
        torch.where(found, tops.int().argmax(1), absent),
        torch.where(found, bottoms.int().argmax(1), absent),
        torch.where(found, high - low, torch.nan),
        tops.sum(1) > 1,
        bottoms.sum(1) > 1,
    )


def _check(scores: torch.Tensor) -> None:
    if scores.ndim != 2 or not scores.shape[1] or not scores.is_floating_point():
        raise ValueError(f"scores must be floating [groups, at least 1], not {scores.dtype} {list(scores.shape)}")


def _make(case: Case, device: torch.device) -> Inputs:
    """Scores rounded so that some groups tie, and some candidates absent."""
    draw = torch.Generator().manual_seed(0)
    scores = (torch.randn(case.sizes["G"], case.sizes["K"], generator=draw) * 4).round() / 4
    scores[torch.rand(scores.shape, generator=draw) < 0.05] = torch.nan
    return {"scores_GK": scores.to(device, case.dtype)}


def _traffic(case: Case, mode: Mode) -> float:
    del mode
    return case.sizes["G"] * (case.sizes["K"] * case.dtype.itemsize + 2 * 8 + 4 + 2)


OP = Op(
    name="groups",
    public=extremes,
    reference=extremes_reference,
    make=_make,
    cases=(Case("four candidates", {"G": 2048, "K": 4}), Case("best of many", {"G": 512, "K": 24})),
    gpu_cases=(Case("four candidates", {"G": 262_144, "K": 4}), Case("best of many", {"G": 65_536, "K": 24})),
    flops=lambda case, mode: 8.0 * case.sizes["G"] * case.sizes["K"] * (mode != "backward"),
    traffic=_traffic,
    bound="memory",
    builds=tuple(
        Build(
            name=f"group_extremes {type_[1:]} K {size}",
            kernel=group_extremes,
            signature={
                "scores": type_,
                "best": "*i64",
                "worst": "*i64",
                "margin": "*fp32",
                "best_tied": "*i8",
                "worst_tied": "*i8",
                "groups": "i32",
                "size": "i32",
            },
            constants={"ROWS": _ROWS, "COLUMNS": size},
            warps=_WARPS,
        )
        for type_, size in (("*fp32", 4), ("*fp32", 32), ("*bf16", 4))
    ),
)
