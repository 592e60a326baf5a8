"""What the trainer of an image reward is given: one training, or the rest of one, with everything resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...pipeline.records import ImagePreference
from ..checkpoints import Checkpoint
from ..data import RunImages
from ..job import JobFolder
from .settings import RewardTrainingConfig


@dataclass(frozen=True)
class RewardJob(JobFolder):
    """Nothing "auto" any more. `weights` are what preferences count, by id; None: all the same."""

    config: RewardTrainingConfig
    model_folder: Path
    model_key: str
    pairs: list[ImagePreference]
    held_out: list[ImagePreference]
    weights: Mapping[str, float] | None
    images: RunImages
    output: Path
    resume: Checkpoint | None
    device: Literal["cpu", "cuda"]
    precision: Literal["bfloat16", "float32"]
    started: float
