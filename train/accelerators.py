"""What GPUs can do, by the names that people and torch give them: for what a training will take, and how well it ran.

The numbers are the makers' data sheets', without sparsity: bfloat16 products added up in float32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..base.errors import PrefmillError


@dataclass(frozen=True)
class Accelerator:
    """`peak` in bfloat16 floating-point operations per second, `memory` in bytes."""

    name: str
    peak: float
    memory: float
    pattern: str
    """What torch's name of the device must hold. The first accelerator that fits is meant."""


ACCELERATORS = (
    Accelerator("b200", 2250e12, 180e9, r"B200"),
    Accelerator("h200", 989e12, 141e9, r"H200"),
    Accelerator("h100-pcie", 756e12, 80e9, r"H100.*PCIe"),
    Accelerator("h100", 989e12, 80e9, r"H100"),
    Accelerator("a100-40gb", 312e12, 40e9, r"A100.*40GB"),
    Accelerator("a100-80gb", 312e12, 80e9, r"A100"),
    Accelerator("l40s", 362e12, 48e9, r"L40S"),
    Accelerator("rtx4090", 165e12, 24e9, r"RTX 4090(?! ?D)"),
    Accelerator("rtx3090", 71e12, 24e9, r"RTX 3090(?! Ti)"),
    Accelerator("a10g", 70e12, 24e9, r"A10G"),
    Accelerator("l4", 121e12, 24e9, r"\bL4\b"),
)


def accelerator_named(name: str) -> Accelerator:
    """Return an accelerator by our name. Raises PrefmillError, with all names, for any other."""
    for accelerator in ACCELERATORS:
        if accelerator.name == name.lower():
            return accelerator
    known = ", ".join(accelerator.name for accelerator in ACCELERATORS)
    raise PrefmillError(f"there is no GPU {name!r} in our table", f"choose one of {known}")


def accelerator_of(device_name: str) -> Accelerator | None:
    """Return the accelerator that torch calls so, None where the table does not have it."""
    return next((one for one in ACCELERATORS if re.search(one.pattern, device_name)), None)
