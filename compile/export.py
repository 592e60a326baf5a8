"""A network as a graph: torch.export's program, and the ONNX of it, with the declared names and ranges.

The program is traced on the CPU whatever the engine will run on: a trace computes nothing that is kept, and our Triton
kernels give way to their references there, which every backend knows.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from ..base.errors import PrefmillError
from ..engine.device import weights_dtype
from ..engine.network import Dimension, Network
from .diagnosis import unconvertible, untraceable
from .quantize.rounding import onnx_translations

Ranges = Mapping[str, tuple[int, int, int]]
OPSET = 20
"""What every tool reads; a builder whose runtime gains from a later one names its own."""
LARGE = 2**30
"""From how many bytes on weights lie in a file beside their graph: 2 GiB are the most that one file can hold."""


class _Call(torch.nn.Module):
    """The function that is run, as the forward of a module."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.module = network.module
        self._function = network.forward
        self._names = tuple(network.inputs)

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = self._function(self.module, **dict(zip(self._names, values, strict=True)))
        return result if isinstance(result, tuple) else (result,)


def export_program(network: Network, ranges: Ranges) -> ExportedProgram:
    """The program of a network for these ranges of its dimensions; its module stays where it is.

    Raises PrefmillError, naming the operation and the module it stands in, where a part cannot be traced.
    """
    dtype = weights_dtype(network.module)
    example = network.sample(_traced_sizes(network, ranges), dtype)
    known: dict[str, Any] = {}
    shapes = tuple(
        {axis: _dim(size, ranges, known) for axis, size in enumerate(entry.axes) if isinstance(size, Dimension)}
        for entry in network.inputs.values()
    )
    device = next(network.module.parameters()).device
    network.module.cpu()
    try:
        with torch.no_grad(), quiet_export():
            return torch.export.export(
                _Call(network).eval(), tuple(example.values()), dynamic_shapes=(shapes,), strict=False
            )
    except Exception as error:  # the tracer's reasons are many, and none is the user's
        raise PrefmillError(
            f"{network.name} cannot be exported: {untraceable(error, network)}",
            "run it eagerly: --set engine.backend=eager, and report the model",
        ) from error
    finally:
        network.module.to(device)


def write_onnx(
    network: Network,
    program: ExportedProgram,
    path: Path,
    *,
    optimize: bool = False,
    opset: int = OPSET,
    fuse: bool = False,
) -> None:
    """Write a program as ONNX, with large weights in a file beside it.

    Without `optimize` every weight keeps its name, which a refit needs, and the runtimes fold for themselves; TensorRT
    takes only an optimized graph, in which sequences of tensors are taken apart. `fuse` writes what this opset has as
    one operation as one, and weights keep their names.

    Raises PrefmillError for an operation that ONNX does not have.
    """
    try:
        with quiet_export():
            converted = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                input_names=list(network.inputs),
                output_names=list(network.outputs),
                opset_version=opset,
                optimize=optimize,
                custom_translation_table=onnx_translations(),
            )
    except Exception as error:
        raise PrefmillError(
            f"{network.name} has no ONNX form: {unconvertible(error, program)}",
            "try torch_compile or aoti, which need no ONNX: --set engine.backend=aoti",
        ) from error
    if converted is None:
        raise PrefmillError(f"{network.name} has no ONNX form.", "run it eagerly: --set engine.backend=eager")
    if fuse:
        _fuse(converted.model)
    weight_bytes = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    converted.save(str(path), external_data=weight_bytes > LARGE)


def _fuse(model: Any) -> None:
    """Put root-mean-square norms together, which the libraries' models write out: seven operations, each a pass over
    the data. They are found by their constants, so what only constants go into is computed first."""
    from onnxscript import optimizer  # an extra
    from onnxscript.rewriter import onnx_fusions

    def reads_weights(node: Any) -> bool:
        return any(value is not None and value.is_initializer() for value in node.inputs)

    optimizer.fold_constants(model, should_fold=lambda node: False if reads_weights(node) else None)
    onnx_fusions.fuse(model)


def _traced_sizes(network: Network, ranges: Ranges) -> dict[str, int]:
    """Sizes to trace with: no two alike and none 1, which the tracer would take for constants of the graph."""
    sizes: dict[str, int] = {}
    for name, dimension in network.dimensions.items():
        smallest, _, largest = ranges[name]
        size = max(smallest, 2 * dimension.multiple)
        while size in sizes.values() and size + dimension.multiple <= largest:
            size += dimension.multiple
        sizes[name] = min(size, largest)
    return sizes


def _dim(dimension: Dimension, ranges: Ranges, known: dict[str, Any]) -> Any:
    smallest, _, largest = ranges[dimension.name]
    if smallest == largest:
        return None
    if dimension.name not in known:
        known[dimension.name] = Dim(
            f"{dimension.name}_{dimension.multiple}" if dimension.multiple > 1 else dimension.name,
            min=max(smallest // dimension.multiple, 1),
            max=largest // dimension.multiple,
        )
    return known[dimension.name] * dimension.multiple if dimension.multiple > 1 else known[dimension.name]


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """The exporters tell of every step on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
