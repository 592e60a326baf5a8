"""How far memory grows while something runs: a process's own, or a GPU's."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_WATCH_SECONDS = 0.005


def give_back_memory() -> None:
    """So that what was used before is not there to be used again."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # of a C library that is not glibc
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def device_growth() -> Iterator[Callable[[], int]]:
    """Watch how far the device's allocated memory rises above where it is now, in bytes: torch's own alone."""
    import torch

    torch.cuda.empty_cache()  # the other sides live on the same device
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    yield lambda: torch.cuda.max_memory_allocated() - start
    torch.cuda.empty_cache()


@contextlib.contextmanager
def process_growth() -> Iterator[Callable[[], int]]:
    """Watch how far this process's memory rises above where it is now, in bytes."""
    statistics_file, ended = Path("/proc/self/statm"), threading.Event()

    def resident() -> int:
        return int(statistics_file.read_text().split()[1]) * resource.getpagesize()

    start = resident()
    peak = [start]

    def watch() -> None:
        while not ended.wait(_WATCH_SECONDS):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(peak[0], resident()) - start
    finally:
        ended.set()
        watcher.join()
