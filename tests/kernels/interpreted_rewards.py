"""The Triton kernels of reward heads, in the interpreter, against their references."""

import pytest
import torch
from prefmill.kernels.operation import Case
from prefmill.kernels.reward_head import (
    OP,
    affine_rewards,
    affine_rewards_reference,
    gated_rewards,
    gated_rewards_reference,
)
from prefmill.kernels.reward_head.kernel import launch_gated
from prefmill.kernels.triton_support import INTERPRETED

assert INTERPRETED
CPU = torch.device("cpu")
TYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("sizes", [(1, 8, 5, 2), (33, 200, 70, 19), (16, 64, 64, 32)])
def test_gated_head(dtype, sizes):
    given = OP.make(Case("interpreted", dict(zip("NDHA", sizes, strict=True)), dtype), CPU)
    for ours, expected in zip(gated_rewards(**given), gated_rewards_reference(**given), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_a_prompt_that_is_not_there_has_no_score():
    """On a GPU nobody looks at the prompts' numbers: no memory beyond the gate's is read."""
    given = OP.make(Case("interpreted", {"N": 8, "D": 8, "H": 5, "A": 2}), CPU)
    prompts = torch.tensor([0, 1, 2, -1, 1 << 40, 0, 1, 1])
    scores, rewards, _ = launch_gated(given["hidden_ND"], given["gate_PH"], prompts, *given["head"])
    assert scores.isnan().tolist() == [False, False, True, True, True, False, False, False]
    assert bool(rewards.isfinite().all())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 7), (9, 1500)])
def test_affine_head(dtype, shape):
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(*shape, generator=draw).to(dtype)
    weight = torch.randn(shape[1], generator=draw)
    numbers = (torch.tensor([0.3]), 0.16717362830052426, 1.0333394966054072)
    expected = affine_rewards_reference(hidden, weight, *numbers)
    torch.testing.assert_close(affine_rewards(hidden, weight, *numbers), expected, atol=2e-5, rtol=1e-5)
