"""Guidance and one Euler step of a flow-matching model, in one read of its inputs and one write.

With velocities c (prompted) and u (unprompted), guidance w per sample, noise level s and the next one s', d = s' - s:

    v  = u + w (c - u)                                     classifier-free guidance, arXiv 2207.12598
    x' = x + d v                                           Euler step of the flow, as Stable Diffusion 3 samples

All in float32 whatever the type.
"""

from typing import Any

import torch

from ..operation import Case, Inputs, Mode, Op
from ..triton_support import runs_triton
from .kernel import EULER_BUILDS, Coefficients, launch_step


def guided_step(
    sample: torch.Tensor,
    prompted: torch.Tensor,
    unprompted: torch.Tensor,
    guidance_B: torch.Tensor,
    level_B: torch.Tensor,
    next_level_B: torch.Tensor,
) -> torch.Tensor:
    """The Euler step x' [B, ...] in the sample's type, with guidance and noise levels (1 down to 0) per sample.

    Not differentiable. Raises ValueError for shapes that do not fit.
    """
    check_shapes(sample, prompted, unprompted, guidance_B, level_B, next_level_B)
    step = next_level_B.float() - level_B.float()
    rates = Coefficients(torch.ones_like(step), step, torch.zeros_like(step), guidance_B.float())
    if runs_triton(sample):
        return launch_step(sample, prompted, unprompted, rates, noise=None, given=None)[0]
    return guided_step_reference(sample, prompted, unprompted, guidance_B, level_B, next_level_B)


def guided_step_reference(
    sample: torch.Tensor,
    prompted: torch.Tensor,
    unprompted: torch.Tensor,
    guidance_B: torch.Tensor,
    level_B: torch.Tensor,
    next_level_B: torch.Tensor,
) -> torch.Tensor:
    """The same in plain torch."""
    wide = torch.float64 if sample.dtype == torch.float64 else torch.float32
    guidance, level, following = (
        value.to(wide).view(-1, *[1] * (sample.ndim - 1)) for value in (guidance_B, level_B, next_level_B)
    )
    base = unprompted.to(wide)
    # Separate products and sums, as the library's scheduler has them: a fused one rounds differently.
    velocity = (prompted.to(wide) - base).mul_(guidance).add_(base)
    return velocity.mul_(following - level).add_(sample.to(wide)).to(sample.dtype)


def check_shapes(
    sample: torch.Tensor,
    prompted: torch.Tensor,
    unprompted: torch.Tensor,
    guidance: torch.Tensor,
    level: torch.Tensor,
    next_level: torch.Tensor,
    *others: torch.Tensor | None,
) -> None:
    """Raise ValueError unless velocities and others have the sample's shape, and guidance and levels one per row."""
    for tensor in (prompted, unprompted, *others):
        if tensor is not None and tensor.shape != sample.shape:
            raise ValueError(f"velocities, noise and samples must be {list(sample.shape)}, not {list(tensor.shape)}")
    for tensor in (guidance, level, next_level):
        if sample.ndim < 2 or tensor.shape != sample.shape[:1]:
            raise ValueError(f"guidance and levels must be [{len(sample)}], not {list(tensor.shape)}")


def make_inputs(case: Case, device: torch.device) -> Inputs:
    """Latents of B images of side S, with guidance and levels that differ from row to row."""
    draw = torch.Generator().manual_seed(0)
    shape = (case.sizes["B"], 16, case.sizes["S"], case.sizes["S"])
    names = ("sample", "prompted", "unprompted")
    tensors = {name: torch.randn(shape, generator=draw).to(device, case.dtype) for name in names}
    rows = torch.arange(shape[0], dtype=torch.float32)
    levels = {"level_B": 0.9 - 0.8 * rows / shape[0], "next_level_B": 0.87 - 0.8 * rows / shape[0]}
    return {**tensors, "guidance_B": (5 + 2 * (rows % 4)).to(device), **{k: v.to(device) for k, v in levels.items()}}


def _work(per_element: float) -> Any:
    def count(case: Case, mode: Mode) -> float:
        return per_element * case.sizes["B"] * 16 * case.sizes["S"] ** 2 * (mode != "backward")

    return count


OP = Op(
    name="guided_step",
    public=guided_step,
    reference=guided_step_reference,
    make=make_inputs,
    cases=(Case("sd3 512", {"B": 8, "S": 64}), Case("sd3 1024", {"B": 8, "S": 128}, torch.bfloat16)),
    gpu_cases=tuple(Case("sd3 1024", {"B": batch, "S": 128}, torch.bfloat16) for batch in (8, 64, 512)),
    flops=_work(6),
    traffic=lambda case, mode: case.dtype.itemsize * _work(4)(case, mode),
    bound="memory",
    builds=EULER_BUILDS,
)
