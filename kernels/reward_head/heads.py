"""From the hidden states of answers to rewards: ArmoRM's heads (arXiv 2406.12845) in one launch.

For an answer's last state h and its prompt's gate state p (the gate's last hidden layer,
whose own linear layers are plain matmuls, once per prompt and not per answer):

    r = R h                      19 attributes
    g = s softmax((G p + a) / T) weights of the attributes
    score = sum_k g_k (r M)_k    M takes the correlation with verbosity out
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import linear

from ..operation import Case, Inputs, Mode, Op
from ..triton_support import runs_triton
from .kernel import GATED_BUILDS, launch_gated


class Rewards(NamedTuple):
    """scores [N], rewards [N, A] (the attributes, before M), gates [N, A]; float32."""

    scores: torch.Tensor
    rewards: torch.Tensor
    gates: torch.Tensor


class GatedHead(NamedTuple):
    """Weights: regression [A, D], transform M [A, A], the gate's last layer [A, H], its bias [A] and scale [1]."""

    regression: torch.Tensor
    transform: torch.Tensor
    gate_weight: torch.Tensor
    gate_bias: torch.Tensor
    gate_scale: torch.Tensor
    gate_temperature: float


def gated_rewards(hidden_ND: torch.Tensor, gate_PH: torch.Tensor, prompts_N: torch.Tensor, head: GatedHead) -> Rewards:
    """Rewards of N answers [N, D] to P prompts, whose gate states are [P, H]; answer i belongs to prompts_N[i].

    Raises ValueError for shapes that do not fit and, on a CPU, for a prompt that is not there; on a GPU, where to look
    would mean to wait, the scores of its answers are NaN.
    """
    _check(hidden_ND, gate_PH, prompts_N, head)
    if not runs_triton(hidden_ND):
        return gated_rewards_reference(hidden_ND, gate_PH, prompts_N, head)
    return Rewards(*launch_gated(hidden_ND, gate_PH, prompts_N, *head))


def gated_rewards_reference(
    hidden_ND: torch.Tensor, gate_PH: torch.Tensor, prompts_N: torch.Tensor, head: GatedHead
) -> Rewards:
    """The same in plain torch, the gate once per prompt."""
    regression, transform, gate_weight, gate_bias, scale, temperature = head
    wide = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
    rewards = linear(hidden_ND.to(wide), regression.to(wide))
    logits = linear(gate_PH.to(wide), gate_weight.to(wide), gate_bias.to(wide))
    gates = (scale.to(wide) * torch.softmax(logits / temperature, -1))[prompts_N]
    return Rewards((gates * (rewards @ transform.to(wide))).sum(-1), rewards, gates)


def _check(hidden: torch.Tensor, gate: torch.Tensor, prompts: torch.Tensor, head: GatedHead) -> None:
    attributes, width = head.regression.shape
    wanted = {
        "hidden": (hidden, (len(hidden), width)),
        "gate": (gate, (len(gate), head.gate_weight.shape[1])),
        "prompts": (prompts, (len(hidden),)),
        "transform": (head.transform, (attributes, attributes)),
        "gate_weight": (head.gate_weight, (attributes, gate.shape[-1])),
        "gate_bias": (head.gate_bias, (attributes,)),
        "gate_scale": (head.gate_scale, (1,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} must be {list(shape)}, not {list(tensor.shape)}")
    if attributes > 32:
        raise ValueError(f"the head has {attributes} attributes; at most 32 fit")
    if not head.gate_temperature > 0:
        raise ValueError(f"gate temperature {head.gate_temperature} must be positive")
    if prompts.device.type == "cpu" and len(prompts) and (int(prompts.min()) < 0 or int(prompts.max()) >= len(gate)):
        raise ValueError(f"prompts must lie in 0 .. {len(gate) - 1}")


def _make(case: Case, device: torch.device) -> Inputs:
    draw = torch.Generator().manual_seed(0)
    answers, width, gate_width, attributes = (case.sizes[name] for name in ("N", "D", "H", "A"))

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=draw)

    head = GatedHead(
        normal(attributes, width, scale=width**-0.5).to(device),
        (torch.eye(attributes) + normal(attributes, attributes, scale=0.1)).to(device),
        normal(attributes, gate_width, scale=4 * gate_width**-0.5).to(device),
        normal(attributes).to(device),
        torch.tensor([1.3], device=device),
        10.0,
    )
    prompts = torch.arange(answers) // 4
    return {
        "hidden_ND": normal(answers, width).to(device, case.dtype),
        "gate_PH": normal(int(prompts[-1]) + 1, gate_width).to(device, case.dtype),
        "prompts_N": prompts.to(device),
        "head": head,
    }


def _flops(case: Case, mode: Mode) -> float:
    answers, width, gate_width, attributes = (case.sizes[name] for name in ("N", "D", "H", "A"))
    return 2.0 * attributes * (answers * width + answers / 4 * gate_width) * (mode != "backward")


def _traffic(case: Case, mode: Mode) -> float:
    del mode
    answers, width, gate_width, attributes = (case.sizes[name] for name in ("N", "D", "H", "A"))
    states = (answers * width + answers / 4 * gate_width) * case.dtype.itemsize
    return states + 4 * attributes * (width + gate_width) + 4 * answers * (1 + 2 * attributes)


_SIZES = {"D": 4096, "H": 1024, "A": 19}
OP = Op(
    name="reward_head",
    public=gated_rewards,
    reference=gated_rewards_reference,
    make=_make,
    cases=(Case("armorm", {"N": 256, **_SIZES}), Case("armorm", {"N": 256, **_SIZES}, torch.bfloat16)),
    gpu_cases=tuple(Case("armorm", {"N": count, **_SIZES}, torch.bfloat16) for count in (64, 4096, 65_536)),
    flops=_flops,
    traffic=_traffic,
    bound="memory",
    builds=GATED_BUILDS,
)
