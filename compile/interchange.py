"""Networks as files for other people's tools: torch.export's program, and ONNX where its packages are installed."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..base.errors import PrefmillError
from ..base.files import reason_of, sha256_of
from ..engine.artifact import ranges_of, weights_digest
from ..engine.network import Dimension, Network
from .export import OPSET, export_program, write_onnx

ONNX_PACKAGES = ("onnx", "onnxscript")


def has_onnx() -> bool:
    """Whether networks can be written as ONNX here."""
    return all(find_spec(name) is not None for name in ONNX_PACKAGES)


def export_network(network: Network, folder: Path) -> dict[str, Any]:
    """Write NAME.pt2, and NAME.onnx where that can be; return what a manifest says of them.

    Raises PrefmillError for a network that cannot be traced, and where the file system refuses.
    """
    ranges = ranges_of(network)
    program = export_program(network, ranges)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.export.save(program, folder / f"{network.name}.pt2")
        if has_onnx():
            write_onnx(network, program, folder / f"{network.name}.onnx")
        files = {path.name: sha256_of(path) for path in _files(folder, network.name)}
    except OSError as error:
        raise PrefmillError(
            f"cannot write {folder}: {reason_of(error)}", "make room, or choose another --to"
        ) from error
    dtype = str(next(network.module.parameters()).dtype)
    return {
        "network": network.name,
        "inputs": {
            name: {
                "axes": [axis.name if isinstance(axis, Dimension) else axis for axis in entry.axes],
                "dtype": str(entry.dtype or dtype).removeprefix("torch."),
            }
            for name, entry in network.inputs.items()
        },
        "outputs": list(network.outputs),
        "ranges": {name: list(entry) for name, entry in ranges.items()},
        "weights": weights_digest(network.module),
        "opset": OPSET if has_onnx() else None,
        "files": files,
    }


def _files(folder: Path, name: str) -> Sequence[Path]:
    """The files of one network; ONNX may have put its weights beside the graph."""
    return sorted(path for path in folder.iterdir() if path.name.split(".")[0] == name)
