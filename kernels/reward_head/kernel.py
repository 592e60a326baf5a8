"""The Triton kernels of reward heads. Products are exact float32: 19 attributes are few, and their sum is a ranking.

The gate's last layer is a matmul of the library's, once per prompt and not per answer; the kernel takes its row.
"""

from __future__ import annotations

import torch

from ..operation import Build
from ..triton_support import argument, blocks, constexpr, jit, tl

_ROWS, _WIDTH, _WARPS = 16, 32, 4
_COLUMNS = 32  # attributes, padded to what a matmul takes
_AFFINE_ROWS, _AFFINE_WIDTH = 4, 1024


@jit
def gated_head(
    hidden: argument,  # [N, D]
    gate_logits: argument,  # [P, A] float32
    prompts: argument,  # [N] int64
    regression: argument,  # [A, D]
    transform: argument,  # [A, A]
    gate_scale: argument,  # [1]
    scores: argument,  # [N]
    rewards: argument,  # [N, A], as gates
    gates: argument,
    count: argument,
    width: argument,
    attributes: argument,
    prompt_count: argument,
    inverse_temperature: argument,
    ROWS: constexpr,
    WIDTH: constexpr,
    COLUMNS: constexpr,
) -> None:
    """ROWS answers per program: product, softmax, transform and sum; see `reward_head`."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    kept = row < count
    column = tl.arange(0, COLUMNS)
    named = column < attributes
    reward = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, width, WIDTH):
        place = start + tl.arange(0, WIDTH)
        inside = place < width
        left = tl.load(hidden + row[:, None] * width + place[None, :], mask=kept[:, None] & inside[None, :], other=0.0)
        right = tl.load(
            regression + column[None, :] * width + place[:, None],
            mask=named[None, :] & inside[:, None],
            other=0.0,
        )
        reward = tl.dot(left.to(tl.float32), right.to(tl.float32), reward, input_precision="ieee")
    prompt = tl.load(prompts + row, mask=kept, other=0)
    there = (prompt >= 0) & (prompt < prompt_count)
    logits = tl.load(
        gate_logits + prompt[:, None] * attributes + column[None, :],
        mask=there[:, None] & named[None, :],
        other=float("nan"),
    )
    logits *= inverse_temperature
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
    gate_logits = torch.nn.functional.linear(gate_PH.float(), gate_weight.float(), gate_bias.float())
    scores = torch.empty(count, dtype=torch.float32, device=hidden_ND.device)
    rewards, gates = torch.empty(2, count, attributes, dtype=torch.float32, device=hidden_ND.device)
    tensors = (hidden_ND, gate_logits, prompts_N, regression, transform, gate_scale)
    gated_head[(blocks(count, _ROWS),)](
        *(tensor.contiguous() for tensor in tensors),
        scores,
        rewards,
        gates,
        count,
        hidden_ND.shape[1],
        attributes,
        len(gate_PH),
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
    weights = dict.fromkeys(("regression", "transform", "gate_scale"), "*fp32")
    outputs = dict.fromkeys(("scores", "rewards", "gates"), "*fp32")
    numbers = {"count": "i32", "width": "i32", "attributes": "i32", "prompt_count": "i32"}
    return Build(
        name=f"gated_head {type_[1:]}",
        kernel=gated_head,
        signature={
            "hidden": type_,
            "gate_logits": "*fp32",
            "prompts": "*i64",
            **weights,
            **outputs,
            **numbers,
            "inverse_temperature": "fp32",
        },
        constants={"ROWS": _ROWS, "WIDTH": _WIDTH, "COLUMNS": _COLUMNS},
        warps=_WARPS,
        divisible=("width",),
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
