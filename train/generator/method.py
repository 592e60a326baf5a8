"""What a method of tuning a generator is to the trainer: losses, one micro-batch after the other.

The trainer takes each loss backward before it asks for the next, steps the optimizer when there are no more, and saves
where the method says that a training may be continued. It knows nothing of rewards, groups or references.

Everything random follows from the training's seed, the step, and what an item is, never from the process that has it.
So several processes compute together what one computes alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from ...pipeline.records import Prompt
from .policy import Policy
from .preferences import ImagePair
from .rewards import Reward
from .settings import GeneratorTrainingConfig

Item = TypeVar("Item")


def _alone(values: torch.Tensor) -> torch.Tensor:
    return values


@dataclass(frozen=True)
class TuningTask:
    """What a method works with, in process `rank` of `processes`.

    `gather` returns the values [N, ...] of all processes [processes * N, ...], in the order of their ranks; all of them
    must call it. `pairs` are the run's preferences, empty where a method has no use for them.
    """

    policy: Policy
    config: GeneratorTrainingConfig
    prompts: Sequence[Prompt]
    reward: Reward
    pairs: Sequence[ImagePair] = ()
    rank: int = 0
    processes: int = 1
    gather: Callable[[torch.Tensor], torch.Tensor] = field(default=_alone)

    def chosen(self, count: int, number: int, step: int) -> list[int]:
        """Which `number` of `count` items step `step` (from 0) takes, those of all processes: every item once a round,
        in an order drawn anew for each."""
        return [self._in_round(count, place) for place in range(step * number, (step + 1) * number)]

    def guidance(self, scales: Sequence[float], step: int) -> float:
        """The scale of a step where steps take them by turns; the training's where there are none."""
        return scales[step % len(scales)] if scales else self.config.guidance

    def own(self, items: Sequence[Item]) -> list[Item]:
        """This process's share: neighbours together, as many as every other has."""
        share = len(items) // self.processes
        return list(items[self.rank * share : (self.rank + 1) * share])

    def _in_round(self, count: int, place: int) -> int:
        turn = torch.Generator().manual_seed(self.config.seed * 1_000_003 + place // count)
        return int(torch.randperm(count, generator=turn)[place % count])


class Method(ABC):
    """One training's method. Called in every process, in step."""

    def __init__(self, task: TuningTask) -> None:
        self.task = task

    @abstractmethod
    def losses(self, step: int) -> Iterator[torch.Tensor]:
        """The losses of optimizer step `step` (from 0), one per micro-batch, with gradients.

        Their sum, averaged over the processes, is what the step lowers. Every process gives as many: where one has
        nothing to say, a loss of weight 0. None from any of them: the optimizer does not step.
        """

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Numbers on the steps since the last call, the same in every process; empty where there were none."""

    def is_boundary(self, step: int) -> bool:
        """Whether a training may be continued after this step: whether nothing of a rollout is left to use."""
        return True
