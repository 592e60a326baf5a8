"""Pairs made on the way: groups drawn by what is being trained, and of each the best and the worst by the reward.

A reward that is no finite number takes its image out of its group. A group with fewer than two images left, or whose
rewards are all the same, says nothing: it is dropped and counted. Where all rewards of a step are broken, the training
ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...base.errors import PrefmillError
from ...pipeline.records import Prompt, seed_for
from .method import TuningTask
from .rewards import diversity


@dataclass(frozen=True)
class Extremes:
    """Clean latents [C, h, w], float32, of a group's best and worst image; `differ`: whether they do in reward."""

    id: str
    prompt: str
    best: torch.Tensor
    worst: torch.Tensor
    differ: bool


class OnlinePairs:
    """Draws the groups of a step and judges them."""

    def __init__(self, task: TuningTask) -> None:
        self.task, self.settings = task, task.config.flow_dpo
        self._rewards: list[torch.Tensor] = []
        self._spreads: list[torch.Tensor] = []

    def draw(self, step: int) -> list[Extremes]:
        """This process's share of a step's groups, one per prompt. Raises PrefmillError where no reward is a number."""
        rows = self.task.chosen(len(self.task.prompts), self.settings.batch_size, step)
        prompts = [self.task.prompts[row] for row in self.task.own(rows)]
        size = self.settings.group_size
        texts = [prompt.text for prompt in prompts for _ in range(size)]
        seeds = [
            seed_for(prompt.id, "online", step, number, self.task.config.seed)
            for prompt in prompts
            for number in range(size)
        ]
        latents, images = self._drawn(texts, seeds, self.task.guidance(self.settings.guidance, step))
        rewards = self.task.reward(images, texts).values.view(-1, size)
        if not self.task.gather(rewards.isfinite().sum().view(1).to(self.task.policy.device)).any():
            raise PrefmillError(
                f"the reward of every image of step {step + 1} is no number",
                "try `prefmill score` on some images, or set another reward",
            )
        self._rewards.append(rewards)
        self._spreads.append(torch.tensor([diversity(group) for group in images.split(size)]))
        return [
            self._extremes(prompt, own, group)
            for prompt, own, group in zip(prompts, rewards, latents.split(size), strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """Numbers on the groups since the last call."""
        if not self._rewards:
            return {}
        device = self.task.policy.device
        rewards = self.task.gather(torch.cat(self._rewards).to(device)).double()
        spreads = self.task.gather(torch.cat(self._spreads).to(device)).double()
        self._rewards, self._spreads = [], []
        finite = rewards[rewards.isfinite()]
        dropped = sum(not _differ(group) for group in rewards)
        return {
            "reward": float(finite.mean()),
            "reward_std": float(finite.std(correction=0)),
            "unusable": float((~rewards.isfinite()).sum()),
            "dropped_groups": float(dropped),
            "diversity": float(spreads.nanmean()),
            "images": float(rewards.numel()),
        }

    def _drawn(self, texts: list[str], seeds: list[int], guidance: float) -> tuple[torch.Tensor, torch.Tensor]:
        policy, batch = self.task.policy, self.task.config.drawing_batch
        latents, images = [], []
        for start in range(0, len(texts), batch):
            rows = slice(start, start + batch)
            *_, last = policy.draw(texts[rows], guidance, seeds[rows])
            latents.append(last.latents.float())
            with torch.no_grad():
                images.append(policy.engine.decode(last.latents))
        return torch.cat(latents), torch.cat(images)

    def _extremes(self, prompt: Prompt, rewards: torch.Tensor, latents: torch.Tensor) -> Extremes:
        best = int(rewards.nan_to_num(-torch.inf, -torch.inf, -torch.inf).argmax())
        worst = int(rewards.nan_to_num(torch.inf, torch.inf, torch.inf).argmin())
        return Extremes(prompt.id, prompt.text, latents[best], latents[worst], _differ(rewards))


def _differ(rewards: torch.Tensor) -> bool:
    finite = rewards[rewards.isfinite()]
    return len(finite) > 1 and bool(finite.max() > finite.min())
