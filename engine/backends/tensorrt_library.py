"""What building and running TensorRT engines share: one API under two package names, its messages, and its types.

`tensorrt` and `tensorrt_rtx` have the same classes and functions. What they tell goes to a logger, so that the text of
a failure has to be kept: the calls themselves return None or False.
"""

from importlib import import_module
from typing import Any

import torch

PLAN_FILE = "engine.plan"

_TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}


def tensorrt_library(backend: str) -> Any:
    """The package of a backend, whose name it has. Raises ImportError where it is not installed."""
    return import_module(backend)


def torch_type(data_type: Any) -> torch.dtype:
    """The torch type of a TensorRT one. Raises KeyError for one that no network of ours has at its borders."""
    return _TYPES[data_type.name]


def message_log(library: Any) -> Any:
    """A logger that keeps the errors that it is told, in `errors`."""

    class MessageLog(library.ILogger):
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= library.ILogger.Severity.ERROR:
                self.errors.append(" ".join(text.split()))

    return MessageLog()
