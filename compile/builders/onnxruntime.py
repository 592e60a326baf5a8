"""ONNX Runtime: the ONNX file itself; the runtime optimises it when it loads."""

from typing import Any

from ...engine.backends.onnxruntime import MODEL_FILE
from ..export import LARGE, write_onnx
from ..weights import NotRefittable, refuse_swallowed, replacement, swallowed_weights
from .builder import Builder, BuildRequest, RefitRequest

OPSET = 23
"""From here on attention and root-mean-square norms are one operation, which ONNX Runtime computes as such."""


def _write(request: BuildRequest) -> dict[str, Any]:
    import onnx  # an extra

    path = request.folder / MODEL_FILE
    write_onnx(request.network, request.program, path, opset=OPSET, fuse=True)
    graph = onnx.load(str(path), load_external_data=False).graph
    return {"swallowed": swallowed_weights(request.program, (entry.name for entry in graph.initializer))}


def _refit(request: RefitRequest) -> dict[str, Any]:
    """Write every weight of the graph anew."""
    import onnx

    refuse_swallowed(request.notes)
    model = onnx.load(str(request.source / MODEL_FILE))
    weights = request.network.graph_weights
    for entry in model.graph.initializer:
        value = replacement(weights, entry.name, entry.dims)
        if value is not None:
            array = value.numpy()
            if onnx.helper.np_dtype_to_tensor_dtype(array.dtype) != entry.data_type:
                raise NotRefittable(f"{entry.name} has another type in it than {array.dtype}")
            entry.raw_data = array.tobytes()
    large = sum(len(entry.raw_data) for entry in model.graph.initializer) > LARGE
    beside = {"save_as_external_data": True, "location": f"{MODEL_FILE}.data"} if large else {}
    onnx.save(model, str(request.folder / MODEL_FILE), **beside)
    return request.notes


BUILDER = Builder(_write, precisions=("float32", "int8"), flags={"opset": OPSET, "fused": True}, refit=_refit)
