"""ReFL (arXiv 2304.05977): the gradient of a differentiable reward, through the decoder and one late step.

A drawing runs without gradients to a random step. That step's velocity, with its gradient, predicts the clean latents,
x_0 = x_s - s v; they are decoded and scored, and with the standardised reward r

    loss = scale mean(relu(threshold - r))

Flows predict the clean image well from much earlier on than the paper's model does, and what is in an image is decided
early: so the range of steps is a setting. A reward that is no number is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from ...base.errors import PrefmillError
from ...pipeline.records import Prompt, seed_for
from .method import Method, TuningTask
from .policy import guided


class Refl(Method):
    """See the module."""

    def __init__(self, task: TuningTask) -> None:
        super().__init__(task)
        self.settings = task.config.refl
        self._rewards: list[torch.Tensor] = []

    def losses(self, step: int) -> Iterator[torch.Tensor]:
        task, settings = self.task, self.settings
        rows = task.chosen(len(task.prompts), settings.batch_size, step)
        prompts = [task.prompts[row] for row in task.own(rows)]
        place = self._place(step)
        found = []
        for start in range(0, len(prompts), settings.micro_batch):
            batch = prompts[start : start + settings.micro_batch]
            rewards = self._rewards_at(batch, step, place)
            finite = rewards.detach().isfinite()
            if not finite.all():  # a broken row would break the gradient of all
                kept = [prompt for prompt, sound in zip(batch, finite.tolist(), strict=True) if sound]
                whole = torch.full_like(rewards.detach(), torch.nan)
                rewards = self._rewards_at(kept, step, place) if kept else self.task.policy.no_loss().view(1)[:0]
                whole[finite] = rewards.detach()
                found.append(whole)
            else:
                found.append(rewards.detach())
            short = (settings.threshold - rewards).relu().sum() + self.task.policy.no_loss()
            yield settings.scale * short / len(prompts)
        everything = task.gather(torch.cat(found))
        self._rewards.append(everything)
        if not everything.isfinite().any():
            raise PrefmillError(
                f"the reward of every image of step {step + 1} is no number",
                "try `prefmill score` on some images, or set another reward",
            )

    def metrics(self) -> dict[str, float]:
        if not self._rewards:
            return {}
        rewards = torch.cat(self._rewards).double()
        self._rewards = []
        finite = rewards[rewards.isfinite()]
        return {
            "reward": float(finite.mean()),
            "reward_std": float(finite.std(correction=0)),
            "reached_share": float((finite >= self.settings.threshold).double().mean()),
            "unusable": float((~rewards.isfinite()).sum()),
            "images": float(len(rewards)),
        }

    def _place(self, step: int) -> int:
        """Which step of the schedule learns, the same for all images of an optimizer step."""
        steps = self.task.config.sampling_steps
        first = min(int(self.settings.earliest * steps), steps - 1)
        last = max(int(self.settings.latest * steps), first + 1)
        draw = torch.Generator().manual_seed(seed_for("refl", "place", step, self.task.config.seed))
        return int(torch.randint(first, last, (1,), generator=draw))

    def _rewards_at(self, prompts: Sequence[Prompt], step: int, place: int) -> torch.Tensor:
        """Standardised rewards [B] of the images that step `place` predicts, with a gradient."""
        policy, settings = self.task.policy, self.settings
        seeds = [seed_for(prompt.id, "refl", step, self.task.config.seed) for prompt in prompts]
        texts, guidance = [prompt.text for prompt in prompts], self.task.guidance(settings.guidance, step)
        latents = policy.engine.noise(seeds, width=policy.width, height=policy.height)
        for state in islice(policy.draw(texts, guidance, seeds), place):
            latents = state.latents
        schedule, conditioning = policy.schedule(), policy.conditioning(texts, guidance)
        prompted, unprompted = policy.velocities(latents, schedule.times[place].expand(len(prompts)), conditioning)
        velocity = guided(prompted, unprompted, conditioning)
        clean = latents.float() - float(schedule.levels[place]) * velocity
        rewards = self.task.reward.with_gradient(policy.decode(clean), texts)
        return (rewards - settings.reward_mean) / settings.reward_deviation
