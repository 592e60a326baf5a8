"""Group PPO on a tiny Stable Diffusion 3: exact ratios, groups that say nothing, processes, and that it learns."""

import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import Execution
from prefmill.engine.scorers.interface import ImageScores
from prefmill.engine.sd3.denoise import Drawing, Schedule
from prefmill.engine.sd3.guidance import Conditioning
from prefmill.engine.sd3.step import Steps
from prefmill.engine.sd3.text import TextEmbedding
from prefmill.kernels.guided_step import guided_step
from prefmill.pipeline.records import Prompt
from prefmill.train.generator.catalogue import make_method
from prefmill.train.generator.method import TuningTask
from prefmill.train.generator.policy import Policy
from prefmill.train.generator.ppo.method import Ppo
from prefmill.train.generator.ppo.rollout import Group, Sampler, draw_group
from prefmill.train.generator.rewards import Reward
from prefmill.train.generator.settings import GeneratorTrainingConfig

PROMPTS = [Prompt(f"id-{number}", number, f"a cat and {number} dogs", "") for number in range(4)]
PPO: dict[str, Any] = {
    **{"group_size": 3, "prompts": 4, "batch_size": 2},
    **{"beta": 0.1, "window": 1, "guidance": (1.0, 3.0)},
}


class Brightness(Reward):
    """How bright an image is; NaN or one value for all in rows of prompts that say so."""

    def __init__(self, broken: str = "none", equal: str = "none"):
        self.broken, self.equal = broken, equal

    def __call__(self, images, prompts):
        values = images.mean((1, 2, 3)).float()
        if self.broken in prompts[0]:
            values[0] = math.nan
        if self.equal in prompts[0]:
            values[:] = 0.5
        return ImageScores(values, [False] * len(prompts), {"one": values, "other": 10 * values})


SETTINGS: dict[str, Any] = {
    "method": "ppo",
    "t5_tokens": 0,
    "lora_rank": 2,
    "sampling_steps": 5,
    "width": 16,
    "height": 16,
}


@pytest.fixture(scope="module")
def loaded(generator_folder):
    config = GeneratorTrainingConfig.model_validate({**SETTINGS, "model": str(generator_folder)})
    return Policy.load(config, generator_folder, torch.device("cpu"), torch.float32)


@pytest.fixture
def policy(loaded):
    """The one policy of these tests, with the adapter that it was loaded with."""
    with loaded.using(loaded.weights()):
        yield loaded


@pytest.fixture
def task(policy):
    return make_task(policy)


def make_task(policy, reward=None, ppo=(), mixture=()):
    own = {"ppo": {**PPO, **dict(ppo)}, "reward": {"mixture": dict(mixture)}}
    config = GeneratorTrainingConfig.model_validate({**SETTINGS, **own})
    return TuningTask(policy, config, PROMPTS, reward or Brightness())


def gradients(method, step):
    """The gradients of an update, and its losses."""
    parameters = method.task.policy.parameters
    for parameter in parameters:
        parameter.grad = None
    losses = []
    for loss in method.losses(step):
        loss.backward()
        losses.append(loss.detach())
    return [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in parameters], losses


def test_the_first_ratios_are_one_and_steps_come_by_batch_and_window(policy):
    method = make_method(make_task(policy, ppo={"window": 2}), Path())
    assert isinstance(method, Ppo)
    grads, losses = gradients(method, 0)
    # 2 of the 4 groups in the first update, batches of 2 and 1 rows, 2 stochastic steps
    assert len(losses) == 2 * 2 * 2
    assert sum(grad.abs().sum() for grad in grads) > 0
    told = method.metrics()
    assert told["first_ratio_error"] <= 1e-5
    assert told["ratio"] == pytest.approx(1, abs=1e-5)
    assert told["kl"] == told["clip_share"] == 0
    assert told["images"] == 12
    advantages = method.advantages.values
    # with ratio 1 the loss is minus the mean of the advantages, and its gradient is not
    assert float(sum(losses)) == pytest.approx(-advantages[0::2].mean().item(), abs=1e-5)
    assert method.metrics() == {}
    assert [method.is_boundary(step) for step in range(4)] == [False, True, False, True]


def test_what_is_learnt_moves_ratios_and_divergence(task):
    method = Ppo(task)
    optimizer = torch.optim.AdamW(task.policy.parameters, lr=1e-3)
    gradients(method, 0)
    method.metrics()
    optimizer.step()
    gradients(method, 1)
    told = method.metrics()
    assert told["kl"] > 0
    assert told["ratio_min"] < told["ratio"] < told["ratio_max"]
    assert abs(told["ratio"] - 1) > 1e-5
    assert "reward" not in told  # the rollout was told of with its first update


def test_recomputed_log_probabilities_are_those_of_training(policy):
    drawn = Ppo(make_task(policy))
    again = Ppo(make_task(policy, ppo={"old": "recomputed"}))
    for method in (drawn, again):
        gradients(method, 0)
    for one, other in zip(drawn.drawn, again.drawn, strict=True):
        for steps, recomputed in zip(chain(*one.transitions), chain(*other.transitions), strict=True):
            torch.testing.assert_close(steps.logp, recomputed.logp, atol=1e-5, rtol=0)


def test_a_group_is_the_same_in_any_batch_and_its_images_noise_is_their_own(task):
    group = Group.of(3, 0, PROMPTS[0], guidance=3.0, size=4, same_start=False)
    whole, parts = (draw_group(task.policy, group, Sampler(range(1, 3), 0.7, size), task.reward) for size in (4, 1))
    torch.testing.assert_close(whole.scores.values, parts.scores.values, atol=1e-5, rtol=1e-4)
    assert [len(rows) for rows in parts.transitions] == [2] * 4
    assert len(set(group.seeds + group.noise_seeds)) == 8
    assert group.seeds != Group.of(3, 1, PROMPTS[0], guidance=3.0, size=4, same_start=False).seeds
    together = Group.of(3, 0, PROMPTS[0], guidance=3.0, size=4, same_start=True)
    assert len(set(together.seeds)) == 1
    assert len(set(together.noise_seeds)) == 4
    levels = [(float(steps.level[0]), float(steps.following[0])) for steps in whole.transitions[0]]
    schedule = task.policy.schedule().levels.tolist()
    assert levels == [(schedule[1], schedule[2]), (schedule[2], schedule[3])]


def test_broken_rewards_and_equal_groups_are_left_out(policy):
    """The gradient is that of the images that are left, and nothing of the others gets into it."""
    method = Ppo(make_task(policy, Brightness(broken="2 dogs", equal="0 dogs"), {"updates": 1}))
    grads, losses = gradients(method, 0)
    assert all(grad.isfinite().all() for grad in grads)
    assert len(losses) == 3 * 2  # the equal group does not go through the transformer
    told = method.metrics()
    assert (told["unusable"], told["dropped_groups"], told["no_spread_share"]) == (1, 1, 0.25)
    assert int(method.advantages.kept.sum()) == 3 + 2 + 3
    all_equal = Ppo(make_task(policy, Brightness(equal="dogs")))
    assert gradients(all_equal, 0)[1] == []
    assert all_equal.metrics()["dropped_groups"] == 4


def test_a_reward_that_is_never_a_number_ends_the_training(policy):
    class Nothing(Brightness):
        def __call__(self, images, prompts):
            return ImageScores(torch.full((len(prompts),), math.nan), [False] * len(prompts))

    with pytest.raises(PrefmillError, match="every image of rollout 1"):
        gradients(Ppo(make_task(policy, Nothing())), 0)


def test_an_image_that_overflowed_leaves_the_others_gradients_alone(task):
    method = Ppo(task)
    method.losses(0).__next__()
    drawn = method.drawn[0]
    method.advantages.kept[0, 0] = False
    results = []
    for value in (0.3, math.nan):
        for rows in drawn.transitions[:1]:
            for number, steps in enumerate(rows):
                before = steps.before.clone()
                before[0] = value
                rows[number] = replace(steps, before=before)
        for parameter in task.policy.parameters:
            parameter.grad = None
        for loss in method._group_losses(0, 1.0, first=True):
            loss.backward()
        results.append([one.grad.clone() for one in task.policy.parameters if one.grad is not None])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("reward", [Brightness(), Brightness(equal="0 dogs")], ids=["all count", "one group does not"])
def test_two_processes_compute_what_one_does(policy, reward):
    """Each is given what the other would have sent: the one process's gathered values, which hold its own."""
    gathered = []
    alone = make_task(policy, reward)
    method = Ppo(replace(alone, gather=lambda values: gathered.append(values) or values))
    truth, losses = gradients(method, 0)
    means = [torch.zeros_like(grad) for grad in truth]
    total = 0.0
    counts = []
    for rank in range(2):
        sent = iter(gathered)

        def gather(values, rank=rank, sent=sent):
            whole = next(sent)
            assert torch.equal(whole[rank * len(values) : (rank + 1) * len(values)], values)
            return whole

        own, lost = gradients(Ppo(replace(alone, rank=rank, processes=2, gather=gather)), 0)
        means = [mean + grad / 2 for mean, grad in zip(means, own, strict=True)]
        total += float(sum(lost)) / 2
        counts.append(len(lost))
    assert counts[0] == counts[1]
    assert total == pytest.approx(float(sum(losses)), abs=1e-5)
    for mean, grad in zip(means, truth, strict=True):
        torch.testing.assert_close(mean, grad, atol=1e-6, rtol=1e-4)


def test_advantages_of_a_mixture_can_be_added(policy):
    class Parts(Brightness):
        def __call__(self, images, prompts):
            scores = super().__call__(images, prompts)
            return replace(scores, parts={"imagereward": 100 * scores.values, "clip": -10_000 * scores.values})

    mixture = {"imagereward": 1, "clip": 1}
    method = Ppo(make_task(policy, Parts(), {"combine": "advantages"}, mixture))
    gradients(method, 0)
    assert method.advantages.kept.all()
    assert method.advantages.values.abs().max() < 1e-2  # they cancel, whatever their scales


class Drift:
    """The smallest flow: one velocity for all values, which learns. Drawn by the real sampler, decoded as it is."""

    execution = Execution("eager", "float32", "cpu")
    network: Any = None
    fallback = ""
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self):
        self.drift = torch.nn.Parameter(torch.zeros(1))
        self.engine = self

    def run(self, inputs):
        velocity = self.drift.expand_as(inputs["latents"])
        rates = (torch.ones_like(inputs["level"]), inputs["level"], inputs["following"])
        return {"next_latents": guided_step(inputs["latents"], velocity, velocity, *rates), "prompted": velocity}

    def decode(self, latents):
        return latents

    def schedule(self):
        levels = torch.linspace(1, 0, 6)
        return Schedule(levels, 1000 * levels[:-1])

    def conditioning(self, prompts, guidance):
        count = len(prompts)
        return Conditioning(TextEmbedding(torch.zeros(count, 1, 1), torch.zeros(count, 1)), torch.ones(count))

    def velocities(self, latents, times, conditioning):
        velocity = self.drift.expand_as(latents)
        return velocity, velocity

    @torch.no_grad()
    def draw(self, prompts, guidance, seeds, sampler):
        latents = torch.stack([torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        return list(Drawing(Steps(self, self), latents, self.conditioning(prompts, 1.0), self.schedule(), sampler))


def test_it_learns_what_the_reward_likes():
    """Brighter pictures need a lower velocity; each rollout makes them so."""
    toy: Any = Drift()
    ppo = {"group_size": 16, "batch_size": 16, "guidance": (1.0,), "beta": 0.0, "clip": 0.5, "updates": 1, "window": 2}
    method = Ppo(make_task(toy, ppo=ppo))
    optimizer = torch.optim.SGD([toy.drift], lr=1.0)
    rewards = []
    for step in range(12):
        optimizer.zero_grad()
        for loss in method.losses(step):
            loss.backward()
        optimizer.step()
        rewards.append(method.metrics()["reward"])
    assert toy.drift.item() < -0.3
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.5


def test_more_groups_than_prompts_and_windows_that_do_not_fit(task):
    config = task.config
    for update, message in [({"prompts": 8}, "takes 8 prompts"), ({"window": 4}, "does not fit")]:
        changed = config.model_copy(update={"ppo": config.ppo.model_copy(update=update)})
        with pytest.raises(PrefmillError, match=message):
            Ppo(replace(task, config=changed))
