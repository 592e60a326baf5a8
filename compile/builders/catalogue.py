"""The builders of engines by backend. A new one is a file that ends in a `BUILDER`, and one line here."""

from importlib import import_module

from ...base.errors import PrefmillError
from .builder import Builder

_FILES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "aoti": "aoti",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt_rtx",
}

DEFAULTS = {"cpu": "onnxruntime", "cuda": "tensorrt"}
"""What is built for a kind of device where nobody names a backend."""


def builder_of(backend: str) -> Builder:
    """The builder of a backend. Raises PrefmillError for a backend that runs no engines."""
    if backend not in _FILES:
        raise PrefmillError(f"{backend} runs no engines.", f"--set engine.backend={' or '.join(_FILES)}")
    return import_module(f".{_FILES[backend]}", __package__).BUILDER
