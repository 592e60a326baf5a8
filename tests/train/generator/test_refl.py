"""ReFL's gradient against differences of its loss, and broken rewards."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.train.generator.refl import Refl

from .conftest import WORDS, scattered


def test_gradient_is_the_slope_of_the_loss(make_task, generator_settings):
    task = make_task(generator_settings(refl={"scale": 10.0}))
    policy, method = task.policy, Refl(task)
    scattered(policy, 0.1)
    for loss in method.losses(0):
        loss.backward()
    own = policy.weights()
    gradients = [each.grad.clone() for each in policy.parameters]
    norm = torch.stack([one.square().sum() for one in gradients]).sum().sqrt()
    length = 2e-2  # long enough for float32, short enough for the curve
    values = []
    for sign in (1, -1):
        policy.set_weights([w + sign * length * one / norm for w, one in zip(own, gradients, strict=True)])
        # rollouts to the step that learns have no gradient: they are held still by drawing them with the own weights
        values.append(float(sum(held_still(method, policy, own))))
    assert (values[0] - values[1]) / (2 * length) == pytest.approx(float(norm), rel=0.02)


def held_still(method, policy, own):
    draw = policy.draw

    def with_own_weights(*arguments, **options):
        with policy.using(own):
            states = list(draw(*arguments, **options))
        return iter(states)

    policy.draw = with_own_weights
    try:
        return list(method.losses(0))
    finally:
        policy.draw = draw


def test_a_step_raises_the_reward_of_what_it_predicts(make_task, generator_settings):
    task = make_task(generator_settings())
    method = Refl(task)
    before = float(sum(method.losses(0)))
    for loss in method.losses(0):
        loss.backward()
    with torch.no_grad():
        for each in task.policy.parameters:
            each.sub_(each.grad, alpha=0.05)
    assert float(sum(method.losses(0))) < before


def test_a_broken_reward_is_dropped_and_counted(make_task, generator_settings):
    task = make_task(generator_settings(refl={"micro_batch": 2}), broken=WORDS[:3])
    method = Refl(task)
    with_one = next(s for s in range(4) if any(task.prompts[row].text == WORDS[3] for row in task.chosen(4, 2, s)))
    for loss in method.losses(with_one):
        loss.backward()
    assert all(each.grad.isfinite().all() for each in task.policy.parameters)
    assert any(each.grad.abs().sum() > 0 for each in task.policy.parameters)
    assert method.metrics()["unusable"] == 1
    without = next(s for s in range(4) if all(task.prompts[row].text != WORDS[3] for row in task.chosen(4, 2, s)))
    with pytest.raises(PrefmillError, match="the reward of every image"):
        list(method.losses(without))
