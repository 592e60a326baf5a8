"""The declaration of an operation: everything that tests, benchmarks and budgets need to know about it, once.

A file that holds an operation ends in a constant `OP`, a folder lists its own in `OPS`, `kernels/catalogue.py` lists
all; nothing else names an operation twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Mode = Literal["forward", "backward", "both"]
Inputs = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One set of sizes at one precision; `options` are keyword arguments of the operation."""

    name: str
    sizes: Mapping[str, int]
    dtype: torch.dtype = torch.float32
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={value}" for name, value in self.sizes.items())
        return f"{self.name} {sizes} {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class Build:
    """A Triton kernel at one specialisation, to be compiled without a GPU and held to its budget.

    `signature` maps every run-time argument to a Triton type ("*bf16", "i32", "fp32"); pointers and the integers
    named in `divisible` are promised to be multiples of 16, as they are in real launches.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    warps: int
    stages: int = 3
    divisible: tuple[str, ...] = ()
    fuse_multiply_add: bool = True


@dataclass(frozen=True)
class Op:
    """An operation: its implementations, its cases, its work, and its kernels.

    `make(case, device)` gives keyword arguments with fixed seeds; `public` and `reference` take them and give a tensor
    or a tuple of tensors, the first of which is differentiable where `differentiable` names inputs. `flops` and
    `traffic` (bytes) count the least work of a mode; `bound` says which of the two is the floor on a GPU.
    """

    name: str
    public: Callable[..., Any]
    reference: Callable[..., Any]
    make: Callable[[Case, torch.device], Inputs]
    cases: tuple[Case, ...]
    gpu_cases: tuple[Case, ...]
    flops: Callable[[Case, Mode], float]
    traffic: Callable[[Case, Mode], float]
    bound: Literal["compute", "memory"]
    builds: tuple[Build, ...]
    differentiable: tuple[str, ...] = ()
    variants: tuple[Callable[..., Any], ...] = ()
    """Further public functions over the same kernels: what else they return, or over several processes."""
