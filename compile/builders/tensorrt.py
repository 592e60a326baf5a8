"""TensorRT: a plan built from the ONNX, strongly typed, with one optimization profile of the engine's ranges.

Every type is that of the exported graph, int64 inputs included, and eight-bit values come from explicit QuantizeLinear
and DequantizeLinear pairs: TensorRT 11 has no other way. TensorRT for RTX has the same API under another name, and
builds for GPUs that are not here; TensorRT itself builds for the one that is. No plan of either was ever executed by
the project: there was no GPU to do it.
"""

import re
import shutil
from typing import Any

from ...base.errors import PrefmillError
from ...engine.backends.tensorrt_library import PLAN_FILE, message_log, tensorrt_library
from ...engine.device import weights_dtype
from ...engine.network import Dimension, Network
from ..export import OPSET, Ranges, write_onnx
from .builder import Builder, BuildRequest

FLOATS = ("float32", "float16", "bfloat16")
_OUT_OF_MEMORY = re.compile(r"out ?of ?memory|bad_alloc|insufficient memory|failed to allocate", re.IGNORECASE)


def tensorrt_builder(backend: str, *, cross: bool, library: Any = None) -> Builder:
    """The builder of `tensorrt` or `tensorrt_rtx`; `cross` where it builds for devices that are not here.

    `library` is the package to use in place of that of the backend's name.
    """
    return Builder(
        lambda request: _write(backend, request, cross, library or tensorrt_library(backend)),
        precisions=(*FLOATS, "int8", "fp8"),
        flags={"opset": OPSET, "strongly_typed": True},
        cross=cross,
    )


def profile_shapes(network: Network, name: str, ranges: Ranges) -> tuple[tuple[int, ...], ...]:
    """The smallest, best and largest shape of one input."""
    axes = network.inputs[name].axes
    return tuple(
        tuple(ranges[axis.name][position] if isinstance(axis, Dimension) else axis for axis in axes)
        for position in range(3)
    )


def _write(backend: str, request: BuildRequest, cross: bool, library: Any) -> dict[str, Any]:
    weights = str(weights_dtype(request.network.module)).removeprefix("torch.")
    if request.precision in FLOATS and request.precision != weights:  # strongly typed: it computes in theirs
        raise ValueError(f"{request.network.name} has weights in {weights}, not in {request.precision}")
    capabilities = _capabilities(library, backend, request) if cross else []
    log = message_log(library)
    builder = library.Builder(log)
    # TensorRT 11 knows no other way, and may know no flag for it.
    strongly_typed = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    graph = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = library.OnnxParser(graph, log)
    scratch = request.folder / "onnx"
    scratch.mkdir()
    write_onnx(request.network, request.program, scratch / "model.onnx", optimize=True)
    if not parser.parse_from_file(str(scratch / "model.onnx")):
        raise _refused(backend, request, [parser.get_error(number) for number in range(parser.num_errors)])
    config = builder.create_builder_config()
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            config.set_compute_capability(capability, index)
    profile = builder.create_optimization_profile()
    for number in range(graph.num_inputs):
        entry = graph.get_input(number)
        if -1 in tuple(entry.shape):
            profile.set_shape(entry.name, *profile_shapes(request.network, entry.name, request.ranges))
    config.add_optimization_profile(profile)
    try:
        plan = builder.build_serialized_network(graph, config)
    except MemoryError as error:
        raise _failed(backend, request, ["out of memory"]) from error
    if plan is None:
        raise _failed(backend, request, log.errors)
    layers = graph.num_layers
    shutil.rmtree(scratch)
    with (request.folder / PLAN_FILE).open("wb") as file:
        file.write(memoryview(plan))
    return {"layers": layers, "inputs": [graph.get_input(number).name for number in range(graph.num_inputs)]}


def _capabilities(library: Any, backend: str, request: BuildRequest) -> list[Any]:
    """What the targets are called. Raises PrefmillError for a target that the library does not build for."""
    known = {
        f"sm_{name.removeprefix('SM')}": getattr(library.ComputeCapability, name)
        for name in dir(library.ComputeCapability)
        if re.fullmatch(r"SM\d+", name)
    }
    for target in request.targets:
        if target not in known:
            if target.startswith("sm_"):
                raise PrefmillError(f"{backend} does not build for {target}.", f"choose of {', '.join(known)}")
            raise PrefmillError(
                f"{backend} builds for GPUs, and there is none here.", f"name one or more of {', '.join(known)}"
            )
    return [known[target] for target in request.targets]


def _refused(backend: str, request: BuildRequest, errors: list[Any]) -> PrefmillError:
    """The parser's first error, by operation and node."""
    first = errors[0] if errors else None
    reason = f"{first.node_operator()} ({first.node_name()}): {first.desc()}" if first else "the file cannot be parsed"
    return PrefmillError(
        f"{backend} does not take the graph of {request.network.name}: {reason}.",
        "run it eagerly (--set engine.backend=eager), or with another backend",
    )


def _failed(backend: str, request: BuildRequest, errors: list[str]) -> PrefmillError:
    reason = errors[0][:400] if errors else "no reason was given"
    where = ", ".join(request.targets)
    if any(_OUT_OF_MEMORY.search(text) for text in errors):
        return PrefmillError(
            f"{backend} ran out of memory while building {request.network.name} for {where}.",
            "free memory, or ask for a smaller largest batch: --range batch=1:4:8",
        )
    return PrefmillError(
        f"{backend} does not build {request.network.name} in {request.precision} for {where}: {reason}.",
        "build it in bfloat16 or float32, or with another backend",
    )


BUILDER = tensorrt_builder("tensorrt", cross=False)
