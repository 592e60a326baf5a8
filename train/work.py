"""The work of a worker by the kind of training. One is a function, `work(output, started)`, run by every process.

It trains to the end what OUTPUT/training.json says, leaving complete checkpoints (train/checkpoints.py) and lines of
metrics.jsonl on the way; the first process then writes the product and manifest.json. `started` is when the process
began, on the clock of time.monotonic().
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..base.errors import PrefmillError


def work_of(kind: str) -> Callable[[Path, float], None]:
    """Return a kind's work; its libraries are imported only now."""
    if kind == "preference":
        from .adapter_work import work

        return work
    if kind == "reward":
        from .reward.work import work

        return work
    if kind == "generator":
        from .generator.work import work

        return work
    raise PrefmillError(f"there is no kind of training {kind!r}", "start trainings with `prefmill train`")
