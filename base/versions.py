"""The versions that a result depends on, for manifests: a number travels with what made it."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    *("prefmill", "torch", "triton", "transformers", "diffusers", "trl", "peft", "accelerate", "deepspeed"),
    *(
        "datasets",
        "pyarrow",
        "pillow",
        "bitsandbytes",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "openvino",
        "tensorrt",
        "tensorrt-rtx",
    ),
)


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that results depend on, and of Python."""
    found = {package: installed_version(package) for package in PACKAGES}
    return {"python": platform.python_version()} | {package: each for package, each in found.items() if each}


@cache
def installed_version(package: str) -> str | None:
    """Return a package's version, or None where it is not installed. Every stage asks, and to read it takes a while."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
