"""What a training backend is given: one training, or the rest of one, with everything resolved."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..pipeline.records import Pair
from .checkpoints import CHECKPOINTS, Checkpoint, CheckpointNotes
from .events import METRICS, MetricsFile
from .manifest import Backend
from .settings import DPOTrainingConfig

if TYPE_CHECKING:
    from .collate import PairCollator
    from .data import RunImages


class JobFolder:
    """What every job says of its output folder, whatever is trained."""

    config: Any
    output: Path
    resume: Checkpoint | None
    started: float
    """When the process began, on the clock of time.monotonic()."""

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.output / CHECKPOINTS

    @property
    def cache(self) -> Path:
        """Return the folder of what a backend computes once and reads often."""
        return Path(self.config.cache).expanduser() if self.config.cache else self.output / "cache"

    @property
    def metrics(self) -> MetricsFile:
        """Return the file of the loss curve."""
        return MetricsFile(self.output / METRICS)

    def notes(self, backend: Backend) -> CheckpointNotes:
        """Return what a checkpoint keeps for the manifest: the backend, and the wall seconds so far."""
        before = self.resume.notes.seconds if self.resume else 0.0
        return CheckpointNotes(seconds=before + time.monotonic() - self.started, backend=backend)


@dataclass(frozen=True)
class TrainingJob(JobFolder):
    """One training, or the rest of one: everything resolved, nothing "auto" any more."""

    config: DPOTrainingConfig
    model_folder: Path
    collator: PairCollator
    pairs: list[Pair]
    images: RunImages
    output: Path
    resume: Checkpoint | None
    device: Literal["cpu", "cuda"]
    precision: Literal["bfloat16", "float32"]
    started: float
    """When the process began, on the clock of time.monotonic()."""
    held_out: list[Pair] = field(default_factory=list)
    """Pairs that are evaluated and not trained on."""
