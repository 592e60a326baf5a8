"""ImageReward's head (arXiv 2304.05977): five linear layers with nothing between them, which is one affine map.

With its standardisation, score = (w . h + b - mean) / deviation. The bias is a tensor, so that nothing waits for it.
"""

import torch
from torch.nn.functional import linear

from ..operation import Case, Inputs, Mode, Op
from ..triton_support import runs_triton
from .kernel import AFFINE_BUILDS, launch_affine


def affine_rewards(
    hidden_ND: torch.Tensor, weight_D: torch.Tensor, bias: torch.Tensor, mean: float = 0.0, deviation: float = 1.0
) -> torch.Tensor:
    """(hidden . weight + bias - mean) / deviation as float32 [N], of a bias [1].

    Not differentiable. Raises ValueError for shapes that do not fit.
    """
    if hidden_ND.ndim != 2 or weight_D.shape != hidden_ND.shape[1:] or bias.shape != (1,):
        raise ValueError(
            f"hidden {list(hidden_ND.shape)}, weight {list(weight_D.shape)} and bias {list(bias.shape)} must be "
            "[N, D], [D] and [1]"
        )
    if not deviation > 0:
        raise ValueError(f"deviation {deviation} must be positive")
    if runs_triton(hidden_ND):
        return launch_affine(hidden_ND, weight_D, bias, mean, deviation)
    return affine_rewards_reference(hidden_ND, weight_D, bias, mean, deviation)


def affine_rewards_reference(
    hidden_ND: torch.Tensor, weight_D: torch.Tensor, bias: torch.Tensor, mean: float = 0.0, deviation: float = 1.0
) -> torch.Tensor:
    """The same in plain torch."""
    wide = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
    return (linear(hidden_ND.to(wide), weight_D[None].to(wide), bias.to(wide)).squeeze(-1) - mean) / deviation


def _make(case: Case, device: torch.device) -> Inputs:
    draw = torch.Generator().manual_seed(0)
    rows, width = case.sizes["N"], case.sizes["D"]
    return {
        "hidden_ND": torch.randn(rows, width, generator=draw).to(device, case.dtype),
        "weight_D": (torch.randn(width, generator=draw) * width**-0.5).to(device),
        "bias": torch.tensor([0.3], device=device),
        "mean": 0.16717362830052426,
        "deviation": 1.0333394966054072,
    }


def _flops(case: Case, mode: Mode) -> float:
    return 2.0 * case.sizes["N"] * case.sizes["D"] * (mode != "backward")


def _traffic(case: Case, mode: Mode) -> float:
    del mode
    return float(case.sizes["N"] * (case.sizes["D"] * case.dtype.itemsize + 4) + 4 * case.sizes["D"])


OP = Op(
    name="affine_head",
    public=affine_rewards,
    reference=affine_rewards_reference,
    make=_make,
    cases=(Case("imagereward", {"N": 256, "D": 768}), Case("imagereward", {"N": 256, "D": 768}, torch.bfloat16)),
    gpu_cases=tuple(Case("imagereward", {"N": count, "D": 768}, torch.bfloat16) for count in (64, 4096)),
    flops=_flops,
    traffic=_traffic,
    bound="memory",
    builds=AFFINE_BUILDS,
)
