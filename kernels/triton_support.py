"""Triton where it is installed, and a clear answer where it is not (macOS, CPU-only wheels).

Kernel files take `jit` and `tl` from here, so that they import everywhere: without Triton the decorated functions
stay plain Python that nobody calls. With TRITON_INTERPRET=1 in the environment before the first import, kernels run
on CPU tensors in Triton's interpreter, which is how they are tested on machines without a GPU.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

_jit: Callable[..., Any] | None
tl: Any
try:
    import triton
    import triton.language as _tl
except ImportError:
    _jit, tl = None, None
else:
    _jit, tl = triton.jit, _tl

# What the arguments of kernels are annotated with. Triton reads these names, and accepts only names of its own.
if TYPE_CHECKING:
    constexpr: TypeAlias = Any
    argument: TypeAlias = Any
else:
    constexpr, argument = (object, object) if tl is None else (tl.constexpr, tl.tensor)

HAS_TRITON = _jit is not None
INTERPRETED = HAS_TRITON and os.environ.get("TRITON_INTERPRET") == "1"


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit`, or the function itself where there is no Triton."""
    return function if _jit is None else _jit(function)


def runs_triton(tensor: torch.Tensor) -> bool:
    """Whether kernels run on this tensor: on CUDA devices, and anywhere in the interpreter."""
    return HAS_TRITON and (INTERPRETED or tensor.is_cuda)


def blocks(length: int, block: int) -> int:
    """How many blocks cover `length`."""
    return -(-length // block)
