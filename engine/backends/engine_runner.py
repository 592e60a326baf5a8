"""What runners of built engines share: the check of sizes, and the split of a batch that is larger than the engine's.

A compiled engine answers nonsense, or crashes, outside the ranges it was built for; some check, some do not. So this
is done once, before any of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch

from ...base.errors import PrefmillError
from ..artifact import Artifact
from ..device import Execution, weights_dtype
from ..network import Network


class EngineRunner(ABC):
    """Runs one network by an engine on disk. A backend says in `_execute` how."""

    def __init__(self, network: Network, folder: Path, artifact: Artifact, device: torch.device) -> None:
        self._network = network
        self.folder = folder
        self.artifact = artifact
        self._device = device
        self._dtype = weights_dtype(network.module)

    @property
    def network(self) -> Network:
        """What it runs."""
        return self._network

    @property
    def device(self) -> torch.device:
        """Where inputs must lie, and outputs do."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """The type of inputs that are not declared to have another."""
        return self._dtype

    @property
    def execution(self) -> Execution:
        """Backend, precision and kind of device, as the engine was built."""
        identity = self.artifact.identity
        return Execution(identity.backend, identity.precision, self._device.type)

    @property
    def fallback(self) -> str:
        """It is what was asked for."""
        return ""

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name; a larger batch than the engine's goes in parts.

        Raises ValueError for inputs that do not fit the declaration, and PrefmillError for a size outside of the
        engine's ranges.
        """
        sizes = self._network.sizes_of(inputs)
        for name, value in inputs.items():
            wanted = self._network.inputs[name].dtype or self._dtype
            if value.dtype != wanted:
                raise ValueError(f"{self._network.name}: {name} is {value.dtype}, the engine takes {wanted}")
        batch = self._network.batch
        for name, size in sizes.items():
            smallest, _, largest = self.artifact.ranges[name]
            if size < smallest or (size > largest and (batch is None or name != batch.name)):
                raise PrefmillError(
                    f"the engine {self.folder.name} takes {name} from {smallest} to {largest}, not {size}.",
                    f"prefmill compile build ... --range {name}={min(size, smallest)}:{size}:{max(size, largest)}",
                )
        most = self.artifact.ranges[batch.name][2] if batch else 1
        return self._network.run_in_parts(self._execute, inputs, most)

    @abstractmethod
    def _execute(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name, of sizes that the engine takes."""
