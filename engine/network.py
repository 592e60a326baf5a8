"""What an engine declares of each network it runs, once: a function of a module, and its inputs by named dimensions.

Everything a backend needs follows from it: the names and axes of an exported graph, the ranges that an engine is built
for, samples to trace and to verify with, and the check of what comes in.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

Draw = Callable[[tuple[int, ...], torch.Generator], torch.Tensor]
Run = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Dimension:
    """A size that varies from call to call. Inputs that share its name share its size."""

    name: str
    minimum: int
    optimum: int
    maximum: int
    multiple: int = 1
    """Sizes are multiples of this: a side that a patch divides, say."""


@dataclass(frozen=True)
class Input:
    """One tensor: its axes, its type (None: that of the weights), and how a sample of it is drawn."""

    axes: tuple[Dimension | int, ...]
    dtype: torch.dtype | None = None
    draw: Draw = lambda shape, generator: torch.randn(shape, generator=generator)


def whole_numbers(low: int, high: int) -> Draw:
    """Draw whole numbers from `low` to below `high`."""
    return lambda shape, generator: torch.randint(low, high, shape, generator=generator)


def between(low: float, high: float) -> Draw:
    """Draw real numbers from `low` to `high`."""
    return lambda shape, generator: low + (high - low) * torch.rand(shape, generator=generator)


def right_padded(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A mask [B, T]: ones, then zeros, at least half of each row ones; the first row is whole."""
    rows, length = shape
    lengths = torch.randint((length + 1) // 2, length + 1, (rows, 1), generator=generator)
    lengths[0] = length
    return (torch.arange(length) < lengths).long()


def positions(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Positions [B, T], from 0 in every row."""
    return torch.arange(shape[1]).expand(shape).clone()


def causal(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """What each token sees [B, 1, T, T]: itself and those before it."""
    return torch.ones(shape, dtype=torch.bool).tril()


@dataclass(frozen=True)
class Network:
    """A module with the function of it that is run: `forward(module, **inputs)` gives `outputs`, in their order.

    `forward` depends on nothing but its arguments, so that a backend may trace, export or capture it. Where the first
    axis of the first input is a dimension, it is the batch: every output has it first, and a call with more rows than
    an engine was built for is split along it.
    """

    name: str
    module: torch.nn.Module
    forward: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    eager_only: str = ""
    """Why no engine is built of it, where none is; it runs eagerly under every backend then."""
    kept_precise: tuple[str, ...] | None = None
    """Parts of the module that an eight-bit engine leaves in the type of the weights; None: it has no such engine."""

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """The named dimensions of all inputs."""
        axes = [axis for entry in self.inputs.values() for axis in entry.axes]
        return {axis.name: axis for axis in axes if isinstance(axis, Dimension)}

    @property
    def batch(self) -> Dimension | None:
        """The dimension that a call can be split along."""
        first = next(iter(self.inputs.values())).axes[:1]
        return first[0] if first and isinstance(first[0], Dimension) else None

    @property
    def graph_weights(self) -> dict[str, torch.Tensor]:
        """The present weights and buffers, by the names that they have in an exported graph of it."""
        return {f"module.{name}": value.detach() for name, value in self.module.state_dict().items()}

    @property
    def specification(self) -> str:
        """A digest of names, axes and types; not of the ranges, which an engine has of its own."""
        inputs = {
            name: [[axis.name if isinstance(axis, Dimension) else axis for axis in entry.axes], str(entry.dtype)]
            for name, entry in self.inputs.items()
        }
        described = [self.name, type(self.module).__qualname__, inputs, self.outputs]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]

    def sample(self, sizes: Mapping[str, int], dtype: torch.dtype, seed: int = 0) -> dict[str, torch.Tensor]:
        """Inputs on the CPU with these sizes of the dimensions; `dtype` is that of the weights."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {}
        for name, entry in self.inputs.items():
            shape = tuple(sizes[axis.name] if isinstance(axis, Dimension) else axis for axis in entry.axes)
            drawn[name] = entry.draw(shape, generator).to(entry.dtype or dtype)
        return drawn

    def sizes_of(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """The sizes of the dimensions in a call.

        Raises ValueError for an input that is missing, not declared, or of another shape.
        """
        self.check_names(inputs)
        sizes: dict[str, int] = {}
        for name, tensor in inputs.items():
            axes = self.inputs[name].axes
            wanted = [axis if isinstance(axis, int) else sizes.setdefault(axis.name, size)
                      for axis, size in zip(axes, tensor.shape, strict=False)]  # fmt: skip
            if list(tensor.shape) != wanted or len(wanted) != len(axes):
                names = [axis.name if isinstance(axis, Dimension) else axis for axis in axes]
                raise ValueError(f"{self.name}: {name} is {list(tensor.shape)}, declared {names}, with {sizes}")
        return sizes

    def rows(self, inputs: Mapping[str, torch.Tensor]) -> int:
        """How many rows a call has; 1 where there is no batch."""
        return len(inputs[next(iter(self.inputs))]) if self.batch else 1

    def split(self, inputs: Mapping[str, torch.Tensor], parts: int) -> list[dict[str, torch.Tensor]]:
        """The rows of a call in so many calls of like size; inputs without the batch go whole into each."""
        batch, rows = self.batch, self.rows(inputs)
        if batch is None:
            raise ValueError(f"{self.name} has no batch to split")
        batched = {name for name, entry in self.inputs.items() if getattr(entry.axes[0], "name", None) == batch.name}
        bounds = [rows * part // parts for part in range(parts + 1)]
        return [
            {name: value[start:stop] if name in batched else value for name, value in inputs.items()}
            for start, stop in pairwise(bounds)
        ]

    def join(self, parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The outputs of a call from those of its parts."""
        return {name: torch.cat([part[name] for part in parts]) for name in self.outputs}

    def run_in_parts(self, run: Run, inputs: Mapping[str, torch.Tensor], most: int) -> dict[str, torch.Tensor]:
        """Outputs of `run`, called on at most so many rows at a time; a call without a batch goes whole.

        Parts are of like size: an engine is tuned for its optimum, and a last part of one row is the worst of all.
        """
        rows = self.rows(inputs)
        if rows <= most or self.batch is None:
            return run(inputs)
        return self.join([run(part) for part in self.split(inputs, -(-rows // most))])

    def check_names(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Raise ValueError for an input that is missing or not declared."""
        missing = self.inputs.keys() - inputs.keys()
        unknown = inputs.keys() - self.inputs.keys()
        if missing or unknown:
            raise ValueError(f"{self.name}: inputs missing {sorted(missing)}, unknown {sorted(unknown)}")
