"""AOTInductor: torch's own compiler ahead of time, for the CPU or the GPU that is here.

`torch._inductor.aoti_compile_and_package` is the documented entry in spite of its name.
"""

import shutil
from typing import Any

import torch
from safetensors.torch import save_file
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.export.passes import move_to_device_pass

from ...base.errors import PrefmillError
from ...engine.backends.aoti import CONSTANTS_FILE, PACKAGE_FILE
from ...engine.backends.cpp_compiler import require_cpp_compiler
from ...engine.device import weights_dtype
from ..diagnosis import unconvertible
from ..export import quiet_export
from ..weights import refuse_swallowed, swallowed_weights
from .builder import Builder, BuildRequest, RefitRequest

_CONFIGURATION = {
    # Weights stay tensors with their names, outside of the package. Otherwise small ones, and those that hold one
    # value, become numbers in the code, and a refit would change only some of them.
    "aot_inductor.package_constants_in_so": False,
    "always_keep_tensor_constants": True,
    "joint_graph_constant_folding": False,
    # Otherwise the number of threads at build time is compiled in.
    "cpp.dynamic_threads": True,
}


def _check(precision: str, device: torch.device) -> None:
    if device.type == "cpu" and precision == "float16":
        raise PrefmillError("aoti computes no float16 on a CPU.", "--set engine.dtype=float32 or bfloat16")
    require_cpp_compiler()


def _write(request: BuildRequest) -> dict[str, Any]:
    dtype = weights_dtype(request.network.module)
    if str(dtype) != f"torch.{request.precision}":
        raise ValueError(f"{request.network.name} is {dtype}, and its engine is to compute in {request.precision}")
    program = request.program
    _name_constants(program)
    if request.device.type == "cuda":
        program = move_to_device_pass(program, str(request.device))
    path = request.folder / PACKAGE_FILE
    try:
        with torch.no_grad(), quiet_export():
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=dict(_CONFIGURATION)
            )
    except Exception as error:  # a compiler's reasons are many, and none is the user's
        raise PrefmillError(
            f"{request.network.name} cannot be compiled: {unconvertible(error, request.program)}",
            "run it eagerly: --set engine.backend=eager",
        ) from error
    names = torch._inductor.aoti_load_package(str(path)).get_constant_fqns()
    lifted = {name: value for name, value in request.program.constants.items() if isinstance(value, torch.Tensor)}
    save_file(
        {name: lifted[name].detach().cpu().clone().contiguous() for name in names if name in lifted},
        request.folder / CONSTANTS_FILE,
    )
    return {"swallowed": swallowed_weights(request.program, names)}


def _name_constants(program: ExportedProgram) -> None:
    """Declare constants as buffers that no state holds, which is the same: of others the compiler forgets the names."""
    for entry in program.graph_signature.input_specs:
        if entry.kind is InputKind.CONSTANT_TENSOR:
            entry.kind, entry.persistent = InputKind.BUFFER, False


def _refit(request: RefitRequest) -> dict[str, Any]:
    """The same files: the package reads whatever weights the network has."""
    refuse_swallowed(request.notes)
    for name in (PACKAGE_FILE, CONSTANTS_FILE):
        shutil.copyfile(request.source / name, request.folder / name)
    return request.notes


BUILDER = Builder(
    _write,
    precisions=("float32", "bfloat16", "float16"),
    flags={"inductor": _CONFIGURATION},
    check=_check,
    refit=_refit,
)
