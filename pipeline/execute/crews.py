"""Which crew computes a run: none (this process), processes on this machine's GPUs, or Ray's actors."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ...base.progress import Progress
from ..stage import Task
from .crew import Crew
from .processes import ProcessCrew
from .work import ExecutorConfig


@contextlib.contextmanager
def crew_of(config: ExecutorConfig, tasks: Sequence[Task], progress: Progress) -> Iterator[Crew | None]:
    """Yield the crew that the settings ask for, None where this process computes; let go of it at the end.

    Raises PrefmillError where Ray is not installed, or does not answer.
    """
    gpus = _visible_gpus() if any(task.execution.get("device") == "cuda" for task in tasks) else []
    crew = _crew(config, gpus, progress)
    try:
        yield crew
    finally:
        if crew is not None:
            crew.close()


def _crew(config: ExecutorConfig, gpus: list[str], progress: Progress) -> Crew | None:
    engine = config.engine
    if engine == "auto":
        engine = "processes" if len(gpus) > 1 else "local"
        if engine == "processes":
            progress.notice(f"{len(gpus)} GPUs: a process on each (executor.engine=local keeps to one)")
    if engine == "local":
        return None
    if engine == "ray":
        from .ray_actors import RayCrew

        return RayCrew(config, _threads(1))
    count = config.workers if config.workers != "auto" else max(1, len(gpus))
    devices = [gpus[number] if gpus else None for number in range(min(count, len(gpus)) if gpus else count)]
    if gpus and count > len(gpus):
        progress.notice(f"executor.workers is {count}, and there are {len(gpus)} GPUs: one process on each")
    return ProcessCrew(devices, _threads(len(gpus)))


def _visible_gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls each GPU that this process sees."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in named.split(",")] if named else [str(number) for number in range(count)]
    return names[:count]


def _threads(sharers: int) -> int | None:
    """Return how many threads of torch a worker has: this process's, whose last bits a CPU's results then have.

    Workers on GPUs, whose results do not depend on that, share the cores. None: torch was not needed so far, and
    decides by itself.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    return max(1, torch.get_num_threads() // max(1, sharers))
