"""A flow of one number learns what its reward likes, under the real sampler."""

from typing import Any

import torch
from prefmill.engine.device import Execution
from prefmill.engine.sd3.denoise import Drawing, Schedule
from prefmill.engine.sd3.guidance import Conditioning
from prefmill.engine.sd3.step import Steps
from prefmill.engine.sd3.text import TextEmbedding
from prefmill.kernels.guided_step import guided_step
from prefmill.pipeline.records import Prompt
from prefmill.train.generator.ppo.method import Ppo

PROMPTS = [Prompt(f"id-{number}", number, f"a cat and {number} dogs", "") for number in range(4)]
PPO: dict[str, Any] = {
    "group_size": 3,
    "prompts": 4,
    "batch_size": 2,
    "beta": 0.1,
    "window": 1,
    "guidance": (1.0, 3.0),
}


class Drift:
    """The smallest flow: one velocity for all values, which learns. DrawnGroup by the real sampler, decoded as it is."""

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
