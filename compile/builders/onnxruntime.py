"""ONNX Runtime: the ONNX file itself; the runtime optimises it when it loads."""

from typing import Any

from ...engine.backends.onnxruntime import MODEL_FILE
from ..export import OPSET, write_onnx
from .builder import Builder, BuildRequest


def _write(request: BuildRequest) -> dict[str, Any]:
    write_onnx(request.network, request.program, request.folder / MODEL_FILE)
    return {}


BUILDER = Builder(_write, precisions=("float32", "int8"), flags={"opset": OPSET})
