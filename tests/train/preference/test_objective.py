"""The objective against TRL's formulas written out by hand on sums of log-probabilities."""

import math

import pytest
import torch
from prefmill.kernels.logprob import TokenStatistics
from prefmill.train.losses import LOSSES
from prefmill.train.preference.objective import METRICS, SUPPORTED, objective, sums
from prefmill.train.settings import DPOTrainingConfig
from torch.nn.functional import logsigmoid

LENGTHS = [3, 5, 2, 4]  # two chosen answers, two rejected ones
BETA = 0.3
EXO_SMOOTHING = 0.01


@pytest.fixture
def answers():
    """Log-probabilities with gradients, their segments, and the reference's sums, all in float64."""
    stream = torch.Generator().manual_seed(0)
    logps = -3 * torch.rand(sum(LENGTHS), generator=stream, dtype=torch.float64)
    segments = torch.repeat_interleave(torch.tensor(LENGTHS))
    reference = torch.zeros(4, dtype=torch.float64).index_add(0, segments, logps) + torch.randn(4, generator=stream)
    return logps.requires_grad_(), segments, reference


def statistics(logps):
    return TokenStatistics(logps, torch.full_like(logps, 1.5).detach(), logps.detach() > -1)


def written_out(loss, logps, segments, reference, smoothing):
    ratios = torch.zeros(4, dtype=torch.float64).index_add(0, segments, logps) - reference
    means = ratios / torch.tensor(LENGTHS)
    (chosen, rejected), delta, mean_delta = ratios.chunk(2), ratios[:2] - ratios[2:], means[:2] - means[2:]
    modulation = torch.sigmoid(BETA * delta / 0.05)
    return {
        "sigmoid": -logsigmoid(BETA * delta),
        "exo_pair": torch.sigmoid(BETA * delta) * (logsigmoid(BETA * delta) - math.log(1 - EXO_SMOOTHING))
        + torch.sigmoid(-BETA * delta) * (logsigmoid(-BETA * delta) - math.log(EXO_SMOOTHING)),
        "nca_pair": -logsigmoid(BETA * chosen) - (logsigmoid(-BETA * chosen) + logsigmoid(-BETA * rejected)) / 2,
        "bco_pair": -logsigmoid(BETA * chosen) - logsigmoid(-BETA * rejected),
        "sppo_hard": (chosen - 0.5 / BETA) ** 2 + (rejected + 0.5 / BETA) ** 2,
        "discopop": -logsigmoid(BETA * delta) * (1 - modulation) + torch.exp(-BETA * delta) * modulation,
        "sft": -logps[: sum(LENGTHS[:2])].mean(),
        "hinge": torch.relu(1 - BETA * delta),
        "ipo": (mean_delta - 1 / (2 * BETA)) ** 2,
        "robust": (-(1 - smoothing) * logsigmoid(BETA * delta) + smoothing * logsigmoid(-BETA * delta))
        / (1 - 2 * smoothing),
        "apo_zero": 1 - torch.sigmoid(BETA * chosen) + torch.sigmoid(BETA * rejected),
        "apo_down": torch.sigmoid(BETA * chosen) + 1 - torch.sigmoid(BETA * delta),
        "sigmoid_norm": -logsigmoid(BETA * mean_delta),
    }[loss].mean()


@pytest.mark.parametrize("sft_weight", [0.0, 0.2])
@pytest.mark.parametrize("loss", sorted(SUPPORTED))
def test_loss_and_gradient_are_trls(answers, loss, sft_weight):
    """Label smoothing is set where it acts, as in TRL: in `robust` and `exo_pair` alone."""
    logps, segments, reference = answers
    smoothing = {"robust": 0.1, "exo_pair": EXO_SMOOTHING}.get(loss, 0.0)
    config = DPOTrainingConfig(loss=loss, beta=BETA, label_smoothing=smoothing, sft_weight=sft_weight)
    got = objective(statistics(logps), segments, 8, reference, config)
    expected = written_out(loss, logps, segments, reference, smoothing) - sft_weight * logps[:8].mean()
    assert got.loss.item() == pytest.approx(expected.item(), rel=1e-12)
    found, wanted = (torch.autograd.grad(value, logps)[0] for value in (got.loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_metrics(answers):
    logps, segments, reference = answers
    got = objective(statistics(logps), segments, 8, reference, DPOTrainingConfig(beta=BETA))
    total = sums(statistics(logps), segments, 2).detach()
    rewards = BETA * (total - reference)
    expected = {
        "entropy": 1.5,
        "mean_token_accuracy": (logps[:8] > -1).double().mean(),
        "kl/off_policy_k1": (total - reference).sum() / sum(LENGTHS),
        "rewards/chosen": rewards[:2].mean(),
        "rewards/rejected": rewards[2:].mean(),
        "rewards/accuracies": (rewards[:2] > rewards[2:]).double().mean(),
        "rewards/margins": (rewards[:2] - rewards[2:]).mean(),
        "logps/chosen": total[:2].mean(),
        "logps/rejected": total[2:].mean(),
    }
    assert dict(zip(METRICS, got.metrics.tolist(), strict=True)) == pytest.approx(
        {name: float(value) for name, value in expected.items()}
    )
    assert total.tolist() == pytest.approx([part.sum().item() for part in logps.split(LENGTHS)])
    assert got.deviation.item() == pytest.approx(((total - reference) / torch.tensor(LENGTHS)).abs().max().item())


def test_off_policy_k1_by_hand():
    """Over the tokens of both answers; an answer read with a corrupted image is none of them."""
    logps, segments = torch.tensor([-1.0, -2.0, -0.5, -3.0, -9.0, -9.0]), torch.tensor([0, 0, 1, 1, 2, 2])
    got = [
        objective(statistics(logps[:count]), segments[:count], 2, reference, DPOTrainingConfig(**settings))
        for count, reference, settings in (
            (4, torch.tensor([-4.0, -2.5]), {}),
            (6, torch.tensor([-4.0, -2.5, -1.0]), {"image_weight": 1.0, "backend": "shared"}),
        )
    ]
    place = METRICS.index("kl/off_policy_k1")
    # the chosen answer is a nat likelier, the rejected one a nat less likely; below, one and half a nat likelier
    assert [one.metrics[place].item() for one in got] == [0.0, 0.0]
    moved = objective(statistics(logps[:4]), segments[:4], 2, torch.tensor([-4.0, -4.0]), DPOTrainingConfig())
    assert moved.metrics[place].item() == pytest.approx((1 + 0.5) / 4)


def test_a_policy_that_is_the_reference_has_loss_ln_2(answers):
    logps, segments, _ = answers
    reference = sums(statistics(logps), segments, 2)
    got = objective(statistics(logps), segments, 8, reference, DPOTrainingConfig())
    assert got.per_pair.tolist() == [math.log(2)] * 2
    assert got.deviation == 0


def test_all_losses_but_those_that_sort_a_batch_are_supported():
    assert set(LOSSES) - {"aot", "aot_unpaired"} == SUPPORTED
