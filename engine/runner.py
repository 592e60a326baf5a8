"""The one seam between the product and what executes its networks: named tensors in, named tensors out.

An engine declares each of its networks once (`Network`) and calls it through a `Runner`; what runs it, eagerly here or
compiled, is chosen by name in `backends.py`. Gradients are the caller's choice: a runner sets no mode.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from .device import Execution, execution_of


@dataclass(frozen=True)
class Network:
    """A module with the function of it that is run: `forward(module, **inputs)` gives `outputs`, in their order.

    `forward` depends on nothing but its arguments, so that a backend may trace, export or capture it. The `optional`
    inputs may be left out.
    """

    name: str
    module: torch.nn.Module
    forward: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    optional: tuple[str, ...] = ()


class Runner(Protocol):
    """Something that runs one network."""

    @property
    def network(self) -> Network:
        """What it runs."""
        ...

    @property
    def device(self) -> torch.device:
        """Where inputs must lie, and outputs do."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The type of the network's weights."""
        ...

    @property
    def execution(self) -> Execution:
        """Backend, precision and kind of device, as they really are."""
        ...

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name. Raises ValueError for an input that is missing or not declared."""
        ...


class EagerRunner:
    """Calls the module's own Python, operation by operation."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def network(self) -> Network:
        """What it runs."""
        return self._network

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._weight().device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights; of the first one where they differ."""
        return self._weight().dtype

    @property
    def execution(self) -> Execution:
        """What this runner is."""
        return execution_of(self._network.module)

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name. Raises ValueError for an input that is missing or not declared."""
        network = self._network
        missing = set(network.inputs) - inputs.keys()
        unknown = inputs.keys() - {*network.inputs, *network.optional}
        if missing or unknown:
            raise ValueError(f"{network.name}: inputs missing {sorted(missing)}, unknown {sorted(unknown)}")
        result = network.forward(network.module, **inputs)
        values = result if isinstance(result, tuple) else (result,)
        return dict(zip(network.outputs, values, strict=True))

    def _weight(self) -> torch.Tensor:
        return next(self._network.module.parameters())
