"""Where models run and in which precision, and the description of that place for manifests.

A number travels with its hardware: every manifest carries `hardware_description()`.
"""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from ..base.errors import PrefmillError
from .settings import EIGHT_BIT, EngineSettings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(settings: EngineSettings) -> torch.device:
    """The torch device that `settings.device` means here. Raises PrefmillError where there is no such GPU."""
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if settings.device == "auto":
        return torch.device("cuda", 0) if available else torch.device("cpu")
    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= available:
        found = f"{available} GPU(s)" if available else "no GPU"
        fix = "--set engine.device=cpu" if not available else f"--set engine.device=cuda:{available - 1}"
        raise PrefmillError(f"engine.device is {settings.device!r}, but torch sees {found} here.", fix)
    return device


def resolve_dtype(settings: EngineSettings, device: torch.device) -> torch.dtype:
    """The torch dtype that `settings.dtype` means on `device`; of eight bits, that of what is around them."""
    if settings.dtype == "auto" or settings.dtype in EIGHT_BIT:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return _DTYPES[settings.dtype]


def resolve_weights_dtype(settings: EngineSettings, device: torch.device) -> torch.dtype:
    """The torch dtype that weights are loaded in: OpenVINO makes its own bfloat16 of float32 on a CPU."""
    return torch.float32 if settings.backend == "openvino" else resolve_dtype(settings, device)


@dataclass(frozen=True)
class Execution:
    """How a network really runs, with nothing left "auto": what results depend on besides weights and inputs."""

    backend: str
    precision: str
    device: str


def resolve_execution(settings: EngineSettings) -> Execution:
    """What `settings` mean here. Raises PrefmillError where there is no such GPU."""
    device = resolve_device(settings)
    return Execution(settings.backend, resolve_precision(settings, device), device.type)


def resolve_precision(settings: EngineSettings, device: torch.device) -> str:
    """The name of the precision that `settings.dtype` means on `device`."""
    if settings.dtype in EIGHT_BIT:
        return settings.dtype
    return str(resolve_dtype(settings, device)).removeprefix("torch.")


def execution_of(module: torch.nn.Module, backend: str = "eager") -> Execution:
    """How a loaded module runs."""
    device = next(module.parameters()).device
    return Execution(backend, str(weights_dtype(module)).removeprefix("torch."), device.type)


def weights_dtype(module: torch.nn.Module) -> torch.dtype:
    """The type of most of a module's weights: heads may be held in another, and come first."""
    counts: dict[torch.dtype, int] = {}
    for weight in module.parameters():
        counts[weight.dtype] = counts.get(weight.dtype, 0) + weight.numel()
    return max(counts, key=lambda dtype: counts[dtype])


def device_target(device: torch.device) -> str:
    """What machine code for a device depends on: a GPU's compute capability, a CPU's kind and vector instructions."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"sm_{major}{minor}"
    return f"{platform.machine()}-{torch.backends.cpu.get_cpu_capability()}"


def why_no_bfloat16() -> str:
    """Return why this CPU computes bfloat16 only by way of float32; empty where it multiplies in it."""
    known = torch.cpu.get_capabilities()
    if known.get("avx512_bf16") or known.get("amx_bf16"):
        return ""
    return f"the CPU ({known.get('cpu_name', 'unknown')}) has neither avx512_bf16 nor amx_bf16"


def hardware_description() -> dict[str, str]:
    """Names of CPU and GPU, core count and library versions, all as text."""
    description = {
        "cpu": _cpu_name(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        description["gpu"] = torch.cuda.get_device_name(0)
        description["gpus"] = str(torch.cuda.device_count())
        description["cuda"] = str(torch.version.cuda)
    return description


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()
