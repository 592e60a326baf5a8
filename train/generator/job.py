"""What a generator's trainer is given: one training, or the rest of one, with everything resolved."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...pipeline.records import Prompt
from ..checkpoints import CHECKPOINTS, Checkpoint, CheckpointNotes
from ..events import METRICS, MetricsFile
from ..manifest import Backend
from .preferences import ImagePair
from .settings import GeneratorTrainingConfig


@dataclass(frozen=True)
class GeneratorJob:
    """Nothing "auto" any more. `started` is when the process began, on the clock of time.monotonic()."""

    config: GeneratorTrainingConfig
    model_folder: Path
    run: Path
    prompts: list[Prompt]
    pairs: list[ImagePair]
    output: Path
    resume: Checkpoint | None
    device: Literal["cpu", "cuda"]
    precision: Literal["bfloat16", "float32"]
    started: float

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.output / CHECKPOINTS

    @property
    def metrics(self) -> MetricsFile:
        """The file of the curves."""
        return MetricsFile(self.output / METRICS)

    def notes(self, backend: Backend) -> CheckpointNotes:
        """What a checkpoint keeps for the manifest: the backend, and the wall seconds so far."""
        before = self.resume.notes.seconds if self.resume else 0.0
        return CheckpointNotes(seconds=before + time.monotonic() - self.started, backend=backend)
