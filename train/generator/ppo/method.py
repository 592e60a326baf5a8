"""Group PPO as a method of the trainer: a rollout, then the optimizer steps that learn from it.

Every process draws its share of a rollout's groups and learns from them; rewards are gathered, so that all of them know
all advantages, and which groups say nothing. Those are left out, unless another process of the step has more to say:
then they count for nothing. Which update a group belongs to follows from its place in the rollout, so that several
processes compute together what one computes alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch

from ....base.errors import PrefmillError
from ..method import Method, TuningTask
from .advantage import Advantages, added_advantages, advantages
from .objective import SamplerNoise, Transitions, Velocities, evaluate, objective
from .record import Record
from .rollout import DrawnGroup, Group, Sampler, draw_group
from .window import stochastic_steps


class Ppo(Method):
    """See the module. `drawn` are this process's groups of the rollout, `advantages` those of all processes."""

    drawn: list[DrawnGroup]
    advantages: Advantages

    def __init__(self, task: TuningTask) -> None:
        """Raises PrefmillError for a window that does not fit the schedule, and more groups than there are prompts."""
        super().__init__(task)
        self.settings = task.config.ppo
        if self.settings.prompts > len(task.prompts):
            raise PrefmillError(
                f"a rollout takes {self.settings.prompts} prompts, and there are {len(task.prompts)}.",
                "give more prompts, or lower ppo.prompts",
            )
        self._window(0)
        self.noise = SamplerNoise(self.settings.noise_level, float(task.policy.schedule().levels[1]))
        self._record = Record(self.settings.clip)

    def losses(self, step: int) -> Iterator[torch.Tensor]:
        """The losses of an update, one per stochastic step and batch of a group's rows."""
        rollout, place = divmod(step, self.settings.steps_per_rollout)
        if place == 0:
            self._draw(rollout)
        update = place % self.settings.updates
        kept = self.advantages.kept
        per_process = kept.view(self.task.processes, -1, kept.shape[1])[:, update :: self.settings.updates]
        most = int(per_process.any(2).sum(1).max())  # groups of the process that has most to say
        images = int(per_process.sum())
        own = range(update, len(self.drawn), self.settings.updates)
        telling = sorted(own, key=lambda group: not self._kept(group).any())  # stable: those that count come first
        for group in islice(telling, most):
            yield from self._group_losses(group, self.task.processes / images, first=place == 0)

    def metrics(self) -> dict[str, float]:
        """Means over the steps since the last call; of rewards, over the rollouts."""
        return self._record.take(self.task.gather)

    def is_boundary(self, step: int) -> bool:
        """Whether a rollout ends with this step."""
        return (step + 1) % self.settings.steps_per_rollout == 0

    def _window(self, rollout: int) -> range:
        config, own = self.task.config, self.settings
        numbers = {"rollout": rollout, "seed": config.seed, "every": own.motion_every}
        return stochastic_steps(config.sampling_steps, own.window, own.timestep_fraction, own.motion, **numbers)

    def _draw(self, rollout: int) -> None:
        task, own = self.task, self.settings
        sampler = Sampler(self._window(rollout), own.noise_level, own.batch_size)
        scales = own.guidance or (task.config.guidance,)
        places = range(rollout * own.prompts, (rollout + 1) * own.prompts)
        chosen = zip(places, task.chosen(len(task.prompts), own.prompts, rollout), strict=True)
        made = {"size": own.group_size, "same_start": own.same_start}
        groups = [
            Group.of(task.config.seed, rollout, task.prompts[prompt], guidance=scales[place % len(scales)], **made)
            for place, prompt in chosen
        ]
        self.drawn = [draw_group(task.policy, group, sampler, task.reward) for group in task.own(groups)]
        if own.old == "recomputed":
            self.drawn = [replace(one, transitions=self._recomputed(one)) for one in self.drawn]
        rewards = task.gather(torch.stack([one.scores.values for one in self.drawn]))
        if not rewards.isfinite().any():
            raise PrefmillError(
                f"the reward of every image of rollout {rollout + 1} is no number",
                "try `prefmill score` on some images, or set another reward",
            )
        if own.combine == "advantages" and (weights := task.config.reward.mixture):
            gathered = {
                name: task.gather(torch.stack([one.scores.parts[name] for one in self.drawn])) for name in weights
            }
            self.advantages = added_advantages(gathered, weights, own.spread)
        else:
            self.advantages = advantages(rewards, own.spread)
        apart = task.gather(torch.tensor([one.diversity for one in self.drawn]))
        self._record.rollout(rewards, self.advantages, apart)

    def _kept(self, group: int) -> torch.Tensor:
        return self.advantages.kept[self.task.rank * len(self.drawn) + group]

    def _group_losses(self, group: int, weight: float, *, first: bool) -> Iterator[torch.Tensor]:
        """`weight` makes sums over images means over those of all processes; steps count alike."""
        own, drawn = self.settings, self.drawn[group]
        device = self.task.policy.device
        values = self.advantages.values[self.task.rank * len(self.drawn) + group].to(device)
        batches = (drawn.transitions, values.split(own.batch_size), self._kept(group).to(device).split(own.batch_size))
        for rows, advantage, counts in zip(*batches, strict=True):
            for whole in rows:
                steps, reference = whole.only(counts), None
                if own.beta:
                    with self.task.policy.reference():
                        reference = self._velocities(drawn.group, steps)
                now = self._velocities(drawn.group, steps)
                result = objective(steps, advantage, now, reference, self.noise, own.clip)
                self._record.step(result, advantage, counts, first=first)
                each = (result.policy + own.beta * result.divergence) * counts
                yield each.sum() * (weight / len(rows))

    def _velocities(self, group: Group, steps: Transitions) -> Velocities:
        conditioning = self.task.policy.conditioning([group.prompt] * len(steps.before), group.guidance)
        return Velocities(*self.task.policy.velocities(steps.before, steps.times, conditioning))

    @torch.no_grad()
    def _recomputed(self, drawn: DrawnGroup) -> list[list[Transitions]]:
        def again(steps: Transitions) -> Transitions:
            return replace(steps, logp=evaluate(steps, self._velocities(drawn.group, steps), self.noise)[0])

        return [[again(steps) for steps in rows] for rows in drawn.transitions]
