"""The versions that a result depends on, for manifests: a number travels with what made it."""

from __future__ import annotations

import platform
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
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
