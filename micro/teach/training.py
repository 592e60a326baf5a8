"""What all trainings of micro checkpoints share: seeds, one thread, schedule, averaged weights, half-precision files.

One thread, because sums in another order give other weights: with it a seed gives the same checkpoint however many
cores a machine has.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..world.language import caption
from ..world.render import render_all
from ..world.scenes import Scene, sample_scenes

Module = TypeVar("Module", bound=torch.nn.Module)


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Where a training stands: step `step` of `steps` of one part, its latest loss, and CPU seconds so far."""

    part: str
    step: int
    steps: int
    loss: float
    seconds: float


OnProgress = Callable[[TrainingStep], None]


def silent(progress: TrainingStep) -> None:
    """Report nothing."""


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch's global stream and compute on one thread inside; both are as before after it."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention as two products: sequences this short train faster so on a CPU than with the fused kernels.

    In float32: bfloat16 is 1.5 times as fast where a CPU has it, and 60 times as slow where it has to pretend.
    """
    with sdpa_kernel(SDPBackend.MATH):
        yield


class Trainer:
    """AdamW with warm-up, cosine decay and clipped gradients, and a running average of the weights.

    `part` names what is trained in progress reports, of which there are about a hundred. The learning rate falls after
    a share `hold` of the steps.
    """

    def __init__(
        self,
        part: str,
        modules: dict[str, torch.nn.Module],
        steps: int,
        learning_rate: float,
        on_progress: OnProgress,
        *,
        weight_decay: float = 0.01,
        average: float = 0.0,
        warm_up: int = 50,
        hold: float = 0.0,
    ) -> None:
        self.part, self.steps, self.on_progress, self.average = part, steps, on_progress, average
        self.modules = modules
        self.parameters = [each for module in modules.values() for each in module.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min(1.0, (step + 1) / warm_up) * _decay(step / steps, hold),
        )
        self.averaged = copy.deepcopy(modules) if average else modules
        self.started = time.process_time()
        self.smooth = 0.0

    def step(self, number: int, loss: torch.Tensor) -> None:
        """One update from a loss; `number` counts from 0."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            # Early weights are far off: let the average forget them quickly.
            keep = min(self.average, (number + 1) / (number + 10))
            means: list[torch.Tensor] = [mean for module in self.averaged.values() for mean in module.parameters()]
            currents: list[torch.Tensor] = [
                current for module in self.modules.values() for current in module.parameters()
            ]
            with torch.no_grad():
                torch._foreach_lerp_(means, currents, 1 - keep)  # type: ignore[reportPrivateImportUsage]
        self.smooth = loss.item() if number == 0 else 0.95 * self.smooth + 0.05 * loss.item()
        if number % max(1, self.steps // 100) == 0 or number == self.steps - 1:
            seconds = time.process_time() - self.started
            self.on_progress(TrainingStep(self.part, number + 1, self.steps, self.smooth, seconds))


def _decay(done: float, hold: float) -> float:
    """The learning rate's factor when a share `done` of the steps is done: 1 up to `hold`, then a half cosine down."""
    left = max(0.0, done - hold) / (1 - hold)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * left))


class SceneStream:
    """Endless batches of training scenes, drawn anew each time with other shifts."""

    def __init__(self, seed: int, scenes: int = 12_000) -> None:
        self.scenes = sample_scenes("train", scenes, seed, distinct=False)
        self.random = np.random.default_rng([seed, 1])

    def scenes_of(self, count: int) -> list[Scene]:
        """Some of the scenes."""
        return [self.scenes[number] for number in self.random.integers(len(self.scenes), size=count)]

    def batch(self, count: int) -> tuple[list[Scene], torch.Tensor]:
        """Scenes and their drawings, float32 [count, 3, 32, 32] in -1 to 1."""
        scenes = self.scenes_of(count)
        return scenes, to_model_range(render_all(scenes, int(self.random.integers(2**31))))

    def captions(self, scenes: list[Scene]) -> list[str]:
        """Their prompts."""
        return [caption(scene) for scene in scenes]


def to_model_range(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] in -1 to 1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_half(module: Module) -> Module:
    """The module in float16, for its file: half the size, and closer than bfloat16 to what was trained."""
    module.to(torch.float16)
    return module.eval()
