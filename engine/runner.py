"""The one seam between the product and what executes its networks: named tensors in, named tensors out.

An engine declares each of its networks once (`network.py`) and calls it through a `Runner`; what runs it, eagerly here
or compiled, is chosen by name in `backends/catalogue.py`. Gradients are the caller's choice: a runner sets no mode.
"""

from collections.abc import Mapping
from typing import Protocol

import torch

from .device import Execution, execution_of, weights_dtype
from .network import Network


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
        """The type of inputs that are not declared to have another."""
        ...

    @property
    def execution(self) -> Execution:
        """Backend, precision and kind of device, as they really are."""
        ...

    @property
    def fallback(self) -> str:
        """Why this runner stands in for another that was asked for; empty where it does not."""
        ...

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name. Raises ValueError for an input that is missing or not declared."""
        ...


class EagerRunner:
    """Calls the module's own Python, operation by operation."""

    def __init__(self, network: Network, fallback: str = "") -> None:
        self._network = network
        self._fallback = fallback

    @property
    def network(self) -> Network:
        """What it runs."""
        return self._network

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self._network.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights; of most of them where they differ."""
        return weights_dtype(self._network.module)

    @property
    def execution(self) -> Execution:
        """What this runner is."""
        return execution_of(self._network.module)

    @property
    def fallback(self) -> str:
        """Why it runs eagerly though something else was asked for."""
        return self._fallback

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name. Raises ValueError for an input that is missing or not declared."""
        self._network.check_names(inputs)
        result = self._network.forward(self._network.module, **inputs)
        values = result if isinstance(result, tuple) else (result,)
        return dict(zip(self._network.outputs, values, strict=True))
