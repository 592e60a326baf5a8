"""Registers, spills and shared memory of every kernel, compiled for a GPU that need not be there.

Triton brings its own `ptxas` and `cuobjdump`, so a CPU can compile each kernel for sm_80 (A100) and sm_90 (H100,
H200) and hold it to what is recorded in `budgets.json`. A change that moves a number updates the record on purpose:
`python -m prefmill.bench.budgets --update`.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .operation import Build
from .triton_support import HAS_TRITON

RECORD = Path(__file__).with_name("budgets.json")
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10}
"""Bytes of shared memory one block may have, by architecture (of 164 and 228 KiB per multiprocessor)."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes: registers per thread, bytes spilled to local memory, bytes of shared memory per block."""

    registers: int
    spilled: int
    shared: int


def measure(build: Build, architecture: int) -> Resources:
    """Compile a kernel for compute capability `architecture` (80, 90) and read its use from the machine code.

    Raises what `compiled` raises.
    """
    made = compiled(build, architecture)
    registers, local = _resources(made.asm["cubin"])
    return Resources(registers, local, int(made.metadata.shared))


def compiled(build: Build, architecture: int) -> Any:
    """What Triton makes of a kernel: its `asm` by kind ("ptx", "cubin") and its `metadata`.

    Raises ImportError without Triton, and RuntimeError in its interpreter, where kernels are no longer compilable.
    """
    if not HAS_TRITON:
        raise ImportError("Triton is not installed: pip install triton (Linux only)")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if not isinstance(build.kernel, triton.runtime.jit.JITFunction):
        raise RuntimeError(f"{build.name} is interpreted; unset TRITON_INTERPRET")
    names = list(build.kernel.arg_names)
    divisible = [name for name, kind in build.signature.items() if kind.startswith("*") or name in build.divisible]
    source = ASTSource(
        fn=build.kernel,
        signature={name: build.signature.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in build.constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in divisible},
    )
    options = {
        "num_warps": build.warps,
        "num_stages": build.stages,
        "enable_fp_fusion": build.fuse_multiply_add,
    }
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and local memory (the stack, where spills go) as the machine code's own header states them."""
    from triton.backends import nvidia

    tool = Path(nvidia.__path__[0]) / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"REG:(\d+) STACK:(\d+)", text)
    if len(found) != 1:
        raise RuntimeError(f"cuobjdump names {len(found)} kernels where one was compiled:\n{text}")
    return int(found[0][0]), int(found[0][1])


def key(build: Build, architecture: int) -> str:
    """How the record names a kernel on an architecture."""
    return f"sm_{architecture} {build.name}"


def read_record(path: Path = RECORD) -> dict[str, Resources]:
    """The recorded budgets by `key`."""
    return {name: Resources(**numbers) for name, numbers in json.loads(path.read_text(encoding="utf-8")).items()}


def write_record(builds: Iterable[Build], path: Path = RECORD) -> dict[str, Resources]:
    """Measure all, write the record, and return it."""
    usages = {key(build, target): measure(build, target) for build in builds for target in sorted(SHARED_LIMIT)}
    lines = [f"  {json.dumps(name)}: {json.dumps(asdict(usage))}" for name, usage in usages.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return usages
