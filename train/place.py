"""Where a worker trains, and in which precision: what "auto" means here, and what has to be there for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from ..base.errors import PrefmillError
from .events import say
from .launch_settings import LaunchSettings
from .zero2 import build_extension, is_extension_built, require_compiler


class Place(NamedTuple):
    """Nothing "auto" any more."""

    device: Literal["cpu", "cuda"]
    precision: Literal["bfloat16", "float32"]


def resolve_place(config: LaunchSettings, output: Path) -> Place:
    """Return device and precision, with DeepSpeed's extension built where it is needed.

    Raises PrefmillError for more processes than GPUs, and without a compiler where one is needed.
    """
    import torch

    device, precision = config.device, config.precision
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda" and gpus < config.processes:
        raise PrefmillError(
            f"{config.processes} process(es) on cuda need as many GPUs, and torch sees {gpus}",
            f"set processes={gpus}" if gpus else "set device=cpu",
        )
    if config.zero_stage and device == "cpu":
        require_compiler()
        if not is_extension_built():
            say(output, "compiling DeepSpeed's extension for CPU training (once, about a minute)")
        build_extension()
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    return Place(device, precision)
