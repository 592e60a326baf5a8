"""What a training has used: hours of all devices, their price, and memory."""

from __future__ import annotations

import resource
import sys

import torch


def resources(device_hours: float, device: str, dollars_per_hour: float | None) -> dict[str, float]:
    """Return hours of all devices and their price so far, and the peak memory of this process's device in bytes."""
    used: dict[str, float] = {"device_hours": round(device_hours, 6)}
    if dollars_per_hour is not None:
        used["dollars"] = round(device_hours * dollars_per_hour, 4)
    if device == "cuda":
        used["peak_memory"] = torch.cuda.max_memory_allocated()
    else:  # kilobytes, but for macOS
        used["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )
    return used
