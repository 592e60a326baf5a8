"""Guidance and sampling steps against diffusers' scheduler, torch's normal distribution, and autograd."""

import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from prefmill.kernels.guided_step import OP, guided_step, guided_step_reference, stochastic_step
from prefmill.kernels.operation import Case

from .truth import squared_errors

CPU = torch.device("cpu")


def make(dtype=torch.float32, batch=4, side=6):
    return OP.make(Case("test", {"B": batch, "S": side}, dtype), CPU)


def test_equals_diffusers_with_its_own_schedule():
    """Every step of an SD3-like schedule, guided by hand, four scales in one batch."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(7)
    given = make()
    scale = given["guidance_B"].view(-1, 1, 1, 1)
    velocity = given["unprompted"] + scale * (given["prompted"] - given["unprompted"])
    ours = theirs = given["sample"]
    times, sigmas = torch.as_tensor(scheduler.timesteps), torch.as_tensor(scheduler.sigmas)
    for place, time in enumerate(times):
        theirs = scheduler.step(velocity, time, theirs, return_dict=False)[0]  # type: ignore[arg-type]
        levels = sigmas[place : place + 2, None].expand(2, 4)
        ours = guided_step(ours, given["prompted"], given["unprompted"], given["guidance_B"], *levels)
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_error_is_at_most_that_of_separate_operations(dtype):
    """The unfused composition rounds after every operation; one pass in float32 rounds once."""

    def unfused(sample, prompted, unprompted, guidance_B, level_B, next_level_B):
        scale = guidance_B.view(-1, 1, 1, 1).to(sample.dtype)
        velocity = unprompted + scale * (prompted - unprompted)
        step = (next_level_B - level_B).view(-1, 1, 1, 1)
        return (sample.to(step.dtype) + step * velocity).to(sample.dtype)

    given = make(dtype)
    ((ours, theirs),) = squared_errors(guided_step, unfused, given)
    assert ours <= theirs
    assert torch.equal(guided_step(**given), guided_step_reference(**given))


def normal(given, noise_level):
    """Flow-GRPO's step written out in float64, and its distribution."""
    x, c, u = (given[name].double() for name in ("sample", "prompted", "unprompted"))
    w, s, following = (given[name].double().view(-1, 1, 1, 1) for name in ("guidance_B", "level_B", "next_level_B"))
    d = following - s
    v = u + w * (c - u)
    a = noise_level * torch.sqrt(s / (1 - torch.where(s == 1, torch.full_like(s, 0.99), s)))
    mean = x * (1 + a**2 / (2 * s) * d) + v * (1 + a**2 * (1 - s) / (2 * s)) * d
    return torch.distributions.Normal(mean, (a * torch.sqrt(-d)).expand_as(mean))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("noise_level", [0.7, 0.3])
def test_stochastic_step_and_its_density(dtype, noise_level):
    given = make(dtype)
    given["level_B"][0] = 1.0
    noise = torch.randn(given["sample"].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    drawn = stochastic_step(**given, noise=noise, noise_level=noise_level)
    truth = normal(given, noise_level)
    torch.testing.assert_close(drawn.mean.double(), truth.mean, atol=2e-6, rtol=2e-6)
    expected = truth.mean + truth.stddev * noise.double()
    unit = 2e-6 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(drawn.sample.double(), expected, atol=unit, rtol=unit)
    density = truth.log_prob(drawn.sample.double()).flatten(1).mean(1)
    torch.testing.assert_close(drawn.logp.double(), density, atol=2e-5, rtol=2e-5)
    again = stochastic_step(**given, given=drawn.sample, noise_level=noise_level)
    assert torch.equal(again.logp, drawn.logp), "a rollout evaluated by the same model has ratio exactly 1"
    assert again.sample is drawn.sample or torch.equal(again.sample, drawn.sample)


def test_gradients_of_density_and_mean():
    given = {name: value.double() for name, value in make(batch=2, side=1).items()}
    stored = given["sample"] * 0.9
    leaves = [given.pop(name).requires_grad_() for name in ("prompted", "unprompted")]

    def function(prompted, unprompted):
        return stochastic_step(**given, prompted=prompted, unprompted=unprompted, given=stored)[1:]

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompted": torch.zeros(4, 16, 6, 5)}, r"must be \[4, 16, 6, 6\]"),
        ({"guidance_B": torch.zeros(3)}, r"guidance and levels must be \[4\]"),
        ({"given": torch.zeros(4, 16, 6, 6)}, "either noise"),
        ({"noise": None}, "either noise"),
        ({"noise_level": 0.0}, "noise_level 0.0 must be positive"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    given = make() | {"noise": torch.zeros(4, 16, 6, 6)} | change
    with pytest.raises(ValueError, match=message):
        stochastic_step(**given)


@pytest.mark.parametrize(("row", "change"), [(1, 0.0), (2, 0.95), (3, 1.5)], ids=["to zero", "up", "from above one"])
def test_a_step_without_a_density_gives_nan_in_its_row_alone(row, change):
    given = make()
    name = "level_B" if change > 1 else "next_level_B"
    given[name] = given[name].clone()
    given[name][row] = change
    got = stochastic_step(**given, noise=torch.zeros(4, 16, 6, 6))
    assert got.logp.isnan().tolist() == [place == row for place in range(4)]
    assert got.sample[row].isnan().all()
