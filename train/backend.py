"""What a training backend is given and what it owes, so that another one can take TRL's place.

A backend is one function, `train(job)`, run by every process. It leaves complete checkpoints (train/checkpoints.py)
that hold the adapter in peft's format, the last one after the last step, and writes metrics.jsonl on the way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..engine.errors import PrefmillError
from ..pipeline.records import Pair
from .checkpoints import Checkpoint
from .dpo import DPOTrainingConfig
from .events import METRICS, MetricsFile
from .manifest import Backend

if TYPE_CHECKING:
    from .collate import PairCollator
    from .data import RunImages

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True)
class TrainingJob:
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

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.output / "checkpoints"

    @property
    def metrics(self) -> MetricsFile:
        """Return the file of the loss curve."""
        return MetricsFile(self.output / METRICS)

    def notes(self, backend: Backend) -> dict[str, Any]:
        """Return what a checkpoint keeps for the manifest: the backend, and the wall seconds so far."""
        before = self.resume.notes["seconds"] if self.resume else 0.0
        return {"seconds": before + time.monotonic() - self.started, "backend": backend.model_dump()}


class TrainingBackend(Protocol):
    """See the module."""

    def __call__(self, job: TrainingJob) -> None:
        """Train to the last step."""
        ...


def backend_named(name: str) -> TrainingBackend:
    """Return a backend; its libraries are imported only now."""
    if name == "trl":
        from .trl_backend import train

        return train
    raise PrefmillError(f"there is no training backend {name!r}", "set backend=trl")
