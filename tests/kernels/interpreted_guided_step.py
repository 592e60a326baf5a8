"""The Triton kernels of `guided_step`, in the interpreter, against the CPU path, blocks cut short included.

The interpreter truncates where a GPU rounds to bfloat16: one unit in the last place there.
"""

from typing import Any

import pytest
import torch
from prefmill.kernels.guided_step import guided_step, guided_step_reference, stochastic_step
from prefmill.kernels.guided_step.stochastic import coefficients, in_torch
from prefmill.kernels.triton_support import INTERPRETED

assert INTERPRETED
TYPES = [torch.float32, torch.float16, torch.bfloat16]
UNIT = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2**-7}


def make(dtype, count) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(3, count, generator=draw).to(dtype) for name in ("sample", "prompted", "unprompted")}
    levels = {"level_B": torch.tensor([1.0, 0.5, 0.2]), "next_level_B": torch.tensor([0.95, 0.4, 0.1])}
    return {**tensors, "guidance_B": torch.tensor([5.0, 1.0, 11.0]), **levels}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 2048, 2051])
def test_euler(dtype, count):
    given = make(dtype, count)
    expected = guided_step_reference(**given)
    torch.testing.assert_close(guided_step(**given), expected, atol=UNIT[dtype], rtol=UNIT[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [7, 2051])
@pytest.mark.parametrize("stored", [False, True])
def test_stochastic_forward_and_backward(dtype, count, stored):
    given = make(dtype, count)
    other = torch.randn(3, count, generator=torch.Generator().manual_seed(1)).to(dtype)
    rates = coefficients(given["guidance_B"], given["level_B"], given["next_level_B"], 0.7, 0.99, given["sample"])
    following = None
    found = []
    for path in ("kernel", "torch"):
        leaves = [given[name].clone().requires_grad_() for name in ("prompted", "unprompted")]
        if path == "kernel":
            velocities: dict[str, Any] = {"prompted": leaves[0], "unprompted": leaves[1]}
            velocities["given" if stored else "noise"] = other
            got = stochastic_step(**given | velocities)
            following = got.sample
        else:  # evaluate what the kernel drew, so that both speak of the same x'
            got = in_torch(given["sample"], leaves[0], leaves[1], rates, None, following)
        loss = (got.logp * torch.tensor([1.0, -2.0, 3.0])).sum() + 0.1 * got.mean.square().sum()
        found.append([got.logp.detach(), got.mean.detach(), *torch.autograd.grad(loss, leaves)])
    for place, (ours, expected) in enumerate(zip(*found, strict=True)):
        unit = UNIT[dtype] if place > 1 else 2e-5
        torch.testing.assert_close(ours, expected, atol=unit * max(1, float(expected.abs().max())), rtol=unit)
    if not stored:
        mean = found[1][1]
        drawn = mean + rates.spread[:, None] * other.float()
        assert following is not None
        torch.testing.assert_close(following.float(), drawn, atol=UNIT[dtype], rtol=UNIT[dtype])
