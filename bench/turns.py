"""How sides are compared: they take turns in one process, and claims are medians of the ratios of their rounds.

On a CPU the claimed clock is CPU seconds of all threads: with one thread, these are the wall seconds of a machine that
nothing else uses, and on a shared one they are still the work. On a GPU it is wall seconds. Threads are counted when
OpenMP starts, so a comparison at another number of threads is a process of its own (`at_threads`).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..base.errors import PrefmillError

Timing = dict[str, Any]
"""wall, cpu: seconds; and what else a side says of itself."""
Side = Callable[[], Timing]


def timed(work: Callable[[], Any], device: torch.device | None = None) -> Timing:
    """Seconds of `work`, of a GPU's as well, and its `result`."""
    wait = torch.cuda.synchronize if device is not None and device.type == "cuda" else lambda: None
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wait()
    return {"result": result, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def take_turns(sides: dict[str, Side], rounds: int, *, warm: int = 1) -> dict[str, list[Timing]]:
    """Every side once per round, after `warm` rounds that do not count; every other round begins at the other end."""
    raw: dict[str, list[Timing]] = {name: [] for name in sides}
    for number in range(rounds + warm):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            timing = sides[name]()
            print(f"round {number} {name}: {timing['cpu']:.3f} s CPU, {timing['wall']:.3f} s wall", file=sys.stderr)
            if number >= warm:
                raw[name].append(timing)
    return raw


def ratio(slow: Sequence[Timing], quick: Sequence[Timing], clock: str = "cpu") -> float:
    """How many times as long the slow side takes: the median over rounds."""
    return round(statistics.median(a[clock] / b[clock] for a, b in zip(slow, quick, strict=True)), 3)


def thread_counts() -> list[int]:
    """One thread, and as many as this process has cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({1, cores})


def at_threads(module: str, setting: dict[str, Any], threads: int) -> Any:
    """What a module of this folder answers to `setting` in a process with so many threads.

    Raises PrefmillError where the process ends early; its own words are on stderr.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.{module}", json.dumps(setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise PrefmillError(f"the measurement with {threads} threads ended early; its words are above.")
    return json.loads(done.stdout.splitlines()[-1])
