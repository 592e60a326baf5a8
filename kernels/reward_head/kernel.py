"""The Triton kernels of reward heads. Products are exact float32: 19 attributes are few, and their sum is a ranking."""

from __future__ import annotations

import torch

from ..operation import Build
from ..triton_support import argument, blocks, constexpr, jit, tl

_ROWS, _WIDTH, _WARPS = 16, 64, 4
_COLUMNS = 32  # attributes, padded to what a matmul takes
_AFFINE_ROWS, _AFFINE_WIDTH = 4, 1024


@jit
def _product(
    states: argument,
    rows: argument,
    kept: argument,
    width: argument,
    weight: argument,
    attributes: argument,
    ROWS: constexpr,
    WIDTH: constexpr,
    COLUMNS: constexpr,
) -> argument:
    """Rows of states [.., width] times weight [attributes, width], as [ROWS, COLUMNS] in float32."""
    column = tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, width, WIDTH):
        place = start + tl.arange(0, WIDTH)
        inside = place < width
        left = tl.load(states + rows[:, None] * width + place[None, :], mask=kept[:, None] & inside[None, :], other=0.0)
        right = tl.load(
            weight + column[None, :] * width + place[:, None],
            mask=(column < attributes)[None, :] & inside[:, None],
            other=0.0,
        )
        total = tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision="ieee")
    return total


@jit
def gated_head(
    hidden: argument,  # [N, D]
    gate: argument,  # [P, H]
    prompts: argument,  # [N] int64
    regression: argument,  # [A, D]
    transform: argument,  # [A, A]
    gate_weight: argument,  # [A, H]
    gate_bias: argument,  # [A]
    gate_scale: argument,  # [1]
    scores: argument,  # [N]
    rewards: argument,  # [N, A], as gates
    gates: argument,
    count: argument,
    width: argument,
    gate_width: argument,
    attributes: argument,
    inverse_temperature: argument,
    ROWS: constexpr,
    WIDTH: constexpr,
    COLUMNS: constexpr,
) -> None:
    """ROWS answers per program: both products, softmax, transform and sum; see `reward_head`."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    kept = row < count
    column = tl.arange(0, COLUMNS)
    named = column < attributes
    reward = _product(hidden, row, kept, width, regression, attributes, ROWS, WIDTH, COLUMNS)
    prompt = tl.load(prompts + row, mask=kept, other=0)
    logits = _product(gate, prompt, kept, gate_width, gate_weight, attributes, ROWS, WIDTH, COLUMNS)
    logits = (logits + tl.load(gate_bias + column, mask=named, other=0.0)[None, :]) * inverse_temperature
    logits = tl.where(named[None, :], logits, -float("inf"))
    mass = tl.exp(logits - tl.max(logits, 1)[:, None])
    weights = tl.load(gate_scale).to(tl.float32) * mass / tl.sum(mass, 1)[:, None]
    matrix = tl.load(
        transform + column[:, None] * attributes + column[None, :],
        mask=named[:, None] & named[None, :],
        other=0.0,
    ).to(tl.float32)
    adjusted = tl.dot(reward, matrix, input_precision="ieee")
    tl.store(scores + row, tl.sum(weights * adjusted, 1), mask=kept)
    place = row[:, None] * attributes + column[None, :]
    inside = kept[:, None] & named[None, :]
    tl.store(rewards + place, reward, mask=inside)
    tl.store(gates + place, weights, mask=inside)


@jit
def affine_head(
    hidden: argument,  # [N, D]
    weight: argument,  # [D]
    bias: argument,  # [1]
    scores: argument,  # [N]
    count: argument,
    width: argument,
    mean: argument,
    scale: argument,
    ROWS: constexpr,
    WIDTH: constexpr,
) -> None:
    """(hidden . weight + bias - mean) * scale, ROWS rows per program."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    kept = row < count
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    for start in range(0, width, WIDTH):
        place = start + tl.arange(0, WIDTH)
        inside = place < width
        state = tl.load(
            hidden + row[:, None] * width + place[None, :], mask=kept[:, None] & inside[None, :], other=0.0
        ).to(tl.float32)
        total += state * tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)[None, :]
    tl.store(scores + row, (tl.sum(total, 1) + tl.load(bias).to(tl.float32) - mean) * scale, mask=kept)


def launch_gated(
    hidden_ND: torch.Tensor,
    gate_PH: torch.Tensor,
    prompts_N: torch.Tensor,
    regression: torch.Tensor,
    transform: torch.Tensor,
    gate_weight: torch.Tensor,
    gate_bias: torch.Tensor,
    gate_scale: torch.Tensor,
    gate_temperature: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores [N], rewards [N, A] and gates [N, A]."""
    count, attributes = len(hidden_ND), len(regression)
    scores = torch.empty(count, dtype=torch.float32, device=hidden_ND.device)
    rewards, gates = torch.empty(2, count, attributes, dtype=torch.float32, device=hidden_ND.device)
    tensors = (hidden_ND, gate_PH, prompts_N, regression, transform, gate_weight, gate_bias, gate_scale)
    gated_head[(blocks(count, _ROWS),)](
        *(tensor.contiguous() for tensor in tensors),
        scores,
        rewards,
        gates,
        count,
        hidden_ND.shape[1],
        gate_PH.shape[1],
        attributes,
        1.0 / float(gate_temperature),
        ROWS=_ROWS,
        WIDTH=_WIDTH,
        COLUMNS=_COLUMNS,
        num_warps=_WARPS,
    )
    return scores, rewards, gates


def launch_affine(
    hidden_ND: torch.Tensor, weight_D: torch.Tensor, bias: torch.Tensor, mean: float, deviation: float
) -> torch.Tensor:
    """Standardised scores [N]."""
    count, width = hidden_ND.shape
    scores = torch.empty(count, dtype=torch.float32, device=hidden_ND.device)
    affine_head[(blocks(count, _AFFINE_ROWS),)](
        hidden_ND.contiguous(),
        weight_D.contiguous(),
        bias,
        scores,
        count,
        width,
        float(mean),
        1.0 / float(deviation),
        ROWS=_AFFINE_ROWS,
        WIDTH=_AFFINE_WIDTH,
        num_warps=_WARPS,
    )
    return scores


def _gated_build(type_: str) -> Build:
    weights = dict.fromkeys(("regression", "transform", "gate_weight", "gate_bias", "gate_scale"), "*fp32")
    outputs = dict.fromkeys(("scores", "rewards", "gates"), "*fp32")
    numbers = {"count": "i32", "width": "i32", "gate_width": "i32", "attributes": "i32"}
    return Build(
        name=f"gated_head {type_[1:]}",
        kernel=gated_head,
        signature={
            "hidden": type_,
            "gate": type_,
            "prompts": "*i64",
            **weights,
            **outputs,
            **numbers,
            "inverse_temperature": "fp32",
        },
        constants={"ROWS": _ROWS, "WIDTH": _WIDTH, "COLUMNS": _COLUMNS},
        warps=_WARPS,
        divisible=("width", "gate_width"),
    )


def _affine_build(type_: str) -> Build:
    return Build(
        name=f"affine_head {type_[1:]}",
        kernel=affine_head,
        signature={
            "hidden": type_,
            "weight": "*fp32",
            "bias": "*fp32",
            "scores": "*fp32",
            "count": "i32",
            "width": "i32",
            "mean": "fp32",
            "scale": "fp32",
        },
        constants={"ROWS": _AFFINE_ROWS, "WIDTH": _AFFINE_WIDTH},
        warps=_WARPS,
        divisible=("width",),
    )


_TYPES = ("*fp32", "*bf16", "*fp16")
GATED_BUILDS = tuple(_gated_build(type_) for type_ in _TYPES)
AFFINE_BUILDS = tuple(_affine_build(type_) for type_ in _TYPES)
