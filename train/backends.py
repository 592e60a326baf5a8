"""The training backends by name. One is a function, `train(job)`, run by every process.

It leaves complete checkpoints (train/checkpoints.py) that hold the adapter in peft's format, the last one after the
last step, and writes metrics.jsonl on the way.
"""

from __future__ import annotations

from typing import Protocol

from ..base.errors import PrefmillError
from .job import TrainingJob


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
    if name == "shared":
        from .preference.backend import train

        return train
    raise PrefmillError(f"there is no training backend {name!r}", "set backend=trl or backend=shared")
