"""OpenVINO: its own form of the ONNX graph, in float32; the precision is chosen when it loads."""

from typing import Any

import torch

from ...engine.backends.openvino import MODEL_FILE, check_cpu
from ..export import OPSET, write_onnx
from ..weights import refuse_swallowed, replacement, swallowed_weights
from .builder import Builder, BuildRequest, RefitRequest

_ONNX_FILE = "model.onnx"


def _check(precision: str, device: torch.device) -> None:
    check_cpu(precision)


def _write(request: BuildRequest) -> dict[str, Any]:
    import openvino  # an extra

    onnx = request.folder / _ONNX_FILE
    write_onnx(request.network, request.program, onnx)
    model = openvino.Core().read_model(str(onnx))
    openvino.save_model(model, str(request.folder / MODEL_FILE), compress_to_fp16=False)
    constants = [one.get_friendly_name() for one in model.get_ops() if one.get_type_name() == "Constant"]
    del model  # it reads from the file that goes now
    for path in request.folder.glob(f"{_ONNX_FILE}*"):
        path.unlink()
    return {"swallowed": swallowed_weights(request.program, constants)}


def _refit(request: RefitRequest) -> dict[str, Any]:
    """Put every weight anew in the place of the constant that goes by its name."""
    import openvino

    refuse_swallowed(request.notes)
    model = openvino.Core().read_model(str(request.source / MODEL_FILE))
    weights = request.network.graph_weights
    for old in model.get_ops():
        if old.get_type_name() != "Constant":
            continue
        name = old.get_friendly_name()
        value = replacement(weights, name, old.get_output_shape(0))
        if value is not None:
            new = openvino.op.Constant(value.numpy())
            new.set_friendly_name(name)
            for reader in old.output(0).get_target_inputs():
                reader.replace_source_output(new.output(0))
    openvino.save_model(model, str(request.folder / MODEL_FILE), compress_to_fp16=False)
    return request.notes


BUILDER = Builder(_write, precisions=("float32", "bfloat16"), flags={"opset": OPSET}, check=_check, refit=_refit)
