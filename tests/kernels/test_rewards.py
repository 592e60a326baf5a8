"""Reward heads, against independent arithmetic."""

import math
from itertools import pairwise

import pytest
import torch
from prefmill.kernels.operation import Case
from prefmill.kernels.reward_head import OP, affine_rewards, gated_rewards

CPU = torch.device("cpu")
SIZES = {"N": 21, "D": 96, "H": 40, "A": 19}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated_rewards_by_hand(dtype):
    """Row by row, attribute by attribute, in Python's own floats."""
    given = OP.make(Case("test", SIZES, dtype), CPU)
    got = gated_rewards(**given)
    head = given["head"]
    for row in (0, 5, 20):
        state = given["hidden_ND"][row].tolist()
        gate_state = given["gate_PH"][given["prompts_N"][row]].tolist()
        rewards = [math.fsum(a * b for a, b in zip(state, line, strict=True)) for line in head.regression.tolist()]
        logits = [
            math.fsum(a * b for a, b in zip(gate_state, line, strict=True)) + bias
            for line, bias in zip(head.gate_weight.tolist(), head.gate_bias.tolist(), strict=True)
        ]
        mass = [math.exp(logit / head.gate_temperature) for logit in logits]
        gates = [float(head.gate_scale) * value / math.fsum(mass) for value in mass]
        matrix = head.transform.tolist()
        score = math.fsum(gates[k] * math.fsum(rewards[j] * matrix[j][k] for j in range(19)) for k in range(19))
        assert float(got.scores[row]) == pytest.approx(score, abs=2e-5)
        assert got.rewards[row].tolist() == pytest.approx(rewards, abs=2e-5)
        assert got.gates[row].tolist() == pytest.approx(gates, abs=1e-6)


def test_affine_rewards_equal_a_chain_of_linear_layers():
    """ImageReward's head as it was trained: five layers, folded here in float64."""
    torch.manual_seed(0)
    widths = (48, 64, 24, 12, 8, 1)
    linear = [torch.nn.Linear(a, b).double() for a, b in pairwise(widths)]
    layers = torch.nn.Sequential(*linear)
    weight, bias = torch.eye(48, dtype=torch.float64), torch.zeros(48, dtype=torch.float64)
    for layer in linear:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    hidden = torch.randn(9, 48)
    expected = (layers(hidden.double()).squeeze(1) - 0.16717) / 1.03334
    got = affine_rewards(hidden, weight[0].detach().float(), bias.detach().float(), 0.16717, 1.03334)
    torch.testing.assert_close(got.double(), expected.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_ND": torch.zeros(21, 95)}, r"hidden must be \[21, 96\]"),
        ({"gate_PH": torch.zeros(6, 39)}, r"gate must be \[6, 40\]|gate_weight must be"),
        ({"prompts_N": torch.full((21,), 6)}, "0 .. 5"),
        ({"prompts_N": torch.zeros(20, dtype=torch.int64)}, r"prompts must be \[21\]"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    given = OP.make(Case("test", SIZES), CPU) | change
    with pytest.raises(ValueError, match=message):
        gated_rewards(**given)
