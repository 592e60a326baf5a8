"""The objective of stochastic steps: against torch.distributions in float64, and gradients by finite differences."""

import math
from typing import Any

import torch
from prefmill.train.generator.ppo.objective import SamplerNoise, Transitions, Velocities, clipped, evaluate, objective

NOISE = SamplerNoise(0.7, 0.9)
SHAPE = (4, 2, 3, 3)


def transitions(dtype=torch.float32, shift=0.0):
    """Four steps of different levels, one of them the first; `shift` moves the log-probabilities they came with."""
    draw = torch.Generator().manual_seed(0)
    before = torch.randn(SHAPE, generator=draw, dtype=torch.float64)
    level = torch.tensor([1.0, 0.9, 0.6, 0.3], dtype=torch.float64)
    following = torch.tensor([0.9, 0.6, 0.3, 0.1], dtype=torch.float64)
    after = before + 0.3 * torch.randn(SHAPE, generator=draw, dtype=torch.float64)
    guidance = torch.tensor([1.0, 4.5, 4.5, 7.0], dtype=torch.float64)
    numbers = (before, after, level, following, 1000 * level, guidance, torch.full((4,), shift))
    typed: Any = [value.to(dtype) for value in numbers]
    return Transitions(*typed)


def velocities(seed, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    return Velocities(*(torch.randn(SHAPE, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2)))


def gaussians(steps, velocity):
    """The steps' Gaussians as the paper has them, row by row."""
    for row in range(len(steps.before)):
        x, s, d = steps.before[row].double(), float(steps.level[row]), float(steps.following[row] - steps.level[row])
        u, c = velocity.unprompted[row].double(), velocity.prompted[row].double()
        v = u + float(steps.guidance[row]) * (c - u)
        a = NOISE.level * math.sqrt(s / (1 - (NOISE.first_level if s == 1 else s)))
        mean = x * (1 + a**2 / (2 * s) * d) + v * (1 + a**2 * (1 - s) / (2 * s)) * d
        yield torch.distributions.Normal(mean, torch.full_like(mean, a * math.sqrt(-d)))


def test_log_probabilities_and_divergences_are_those_of_the_gaussians():
    steps, now, reference = transitions(), velocities(1), velocities(2)
    logp, mean = evaluate(steps, now, NOISE)
    got = objective(steps, torch.ones(4), now, reference, NOISE, 1e-4)
    truths = zip(gaussians(steps, now), gaussians(steps, reference), strict=True)
    for row, (truth, still) in enumerate(truths):
        assert abs(logp[row].double() - truth.log_prob(steps.after[row].double()).mean()) <= 1e-5 * logp[row].abs()
        torch.testing.assert_close(mean[row].double(), truth.mean, atol=1e-5, rtol=1e-5)
        divergence = torch.distributions.kl_divergence(truth, still).mean()
        torch.testing.assert_close(got.divergence[row].double(), divergence, atol=1e-5, rtol=1e-5)


def test_a_step_just_drawn_has_ratio_one_and_minus_its_advantage_as_loss():
    steps, now = transitions(), velocities(1)
    logp, _ = evaluate(steps, now, NOISE)
    drawn = Transitions(steps.before, steps.after, steps.level, steps.following, steps.times, steps.guidance, logp)
    advantage = torch.tensor([1.0, -2.0, 0.5, 0.0])
    got = objective(drawn, advantage, now, None, NOISE, 1e-4)
    assert torch.equal(got.ratio, torch.ones(4))
    assert torch.equal(got.policy, -advantage)
    assert torch.equal(got.divergence, torch.zeros(4))


def test_the_clip_takes_the_gradient_of_steps_that_went_far_enough():
    """Beyond the clip, a good step is not pushed further up, nor a bad one down; the other ways are open."""
    for shift, advantage, moves in [(0.1, -1, True), (0.1, 1, False), (-0.1, -1, False), (-0.1, 1, True)]:
        steps, now = transitions(), velocities(1)
        logp, _ = evaluate(steps, now, NOISE)
        numbers = (steps.before, steps.after, steps.level, steps.following, steps.times, steps.guidance)
        old = Transitions(*numbers, logp - shift)
        prompted = now.prompted.clone().requires_grad_()
        advantages = torch.full((4,), float(advantage))
        got = objective(old, advantages, Velocities(prompted, now.unprompted), None, NOISE, 1e-2)
        (gradient,) = torch.autograd.grad(got.loss(0.0), prompted)
        assert gradient.any() == moves
        assert clipped(got.ratio.detach(), advantages, 1e-2).tolist() == [not moves] * 4
        expected = max(-advantage * math.exp(shift), -advantage * min(max(math.exp(shift), 0.99), 1.01))
        torch.testing.assert_close(got.policy.detach(), torch.full((4,), expected), atol=1e-5, rtol=1e-5)


def test_gradients_of_the_whole_objective_are_finite_differences():
    """A network of three weights in float64, guided, with a reference, inside the clip for some steps and outside."""
    steps, base = transitions(torch.float64), velocities(1, torch.float64)
    logp, _ = evaluate(steps, base, NOISE)
    numbers = (steps.before, steps.after, steps.level, steps.following, steps.times, steps.guidance)
    steps = Transitions(*numbers, logp + torch.tensor([0.0, 0.3, -0.3, 0.1], dtype=torch.float64))
    advantage = torch.tensor([1.0, 1.0, 2.0, -1.0], dtype=torch.float64)

    def loss(weights):
        moved = weights[0] * torch.tanh(steps.before * weights[1] + steps.times.view(-1, 1, 1, 1) / 1000 * weights[2])
        now = Velocities(base.prompted + moved, base.unprompted + 0.5 * moved)
        return objective(steps, advantage, now, base, NOISE, 0.05).loss(0.3)

    weights = torch.tensor([0.02, 0.7, -0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (weights,), eps=1e-7, atol=1e-7, rtol=1e-5)
    (gradient,) = torch.autograd.grad(loss(weights), weights)
    assert gradient.abs().min() > 1e-4


def test_velocities_in_bfloat16_are_stepped_in_float32():
    steps, now = transitions(), velocities(1, torch.bfloat16)
    logp, mean = evaluate(steps, now, NOISE)
    exact, _ = evaluate(steps, Velocities(now.prompted.float(), now.unprompted.float()), NOISE)
    assert logp.dtype == mean.dtype == torch.float32
    assert torch.equal(logp, exact)
