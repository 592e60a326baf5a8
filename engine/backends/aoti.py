"""AOTInductor: torch's own compiler ahead of time. The package holds code and no weights.

It reads the weights where the network's module has them, so that they are not on the disk or in memory twice, and an
engine for other weights of the same graph is the same package. What the exporter made constants of lies beside it.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from ...base.errors import PrefmillError
from ..artifact import Artifact
from ..network import Network
from .engine_runner import EngineRunner

PACKAGE_FILE = "model.pt2"
CONSTANTS_FILE = "constants.safetensors"


class AotiRunner(EngineRunner):
    """Runs PACKAGE_FILE of an artifact with the weights of the network.

    Raises PrefmillError where a constant of the package is neither a weight nor in CONSTANTS_FILE.
    """

    def __init__(self, network: Network, folder: Path, artifact: Artifact, device: torch.device) -> None:
        super().__init__(network, folder, artifact, device)
        index = (device.index or 0) if device.type == "cuda" else -1
        self._package = torch._inductor.aoti_load_package(str(folder / PACKAGE_FILE), device_index=index)
        known = {**load_file(folder / CONSTANTS_FILE), **network.graph_weights}
        names = self._package.get_constant_fqns()
        lacking = [name for name in names if name not in known]
        if lacking:
            raise PrefmillError(
                f"the engine {folder.name} wants {lacking[0]}, which {network.name} has not.",
                f"rm -r {folder}, and build it again with `prefmill compile build`",
            )
        # Kept here for as long as the package reads from them.
        self._constants = {name: known[name].to(device).contiguous() for name in names}
        self._package.load_constants(self._constants, check_full_update=True, user_managed=True)

    def _execute(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        # Compiled code computes addresses from the strides of the samples, without a look at those that it is given.
        values = [inputs[name].detach().contiguous() for name in self._network.inputs]
        return dict(zip(self._network.outputs, self._package(*values), strict=True))
