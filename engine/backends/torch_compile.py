"""torch.compile: nothing on disk; the first call of every new shape compiles. On a GPU it captures CUDA graphs."""

from collections.abc import Mapping

import torch

from ..device import Execution, execution_of
from ..network import Network
from ..runner import EagerRunner
from .cpp_compiler import require_cpp_compiler


class TorchCompileRunner(EagerRunner):
    """Runs the network's function compiled, with dynamic sizes on a CPU and one graph per shape on a GPU.

    Raises PrefmillError on a CPU without a C++ compiler.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        on_gpu = self.device.type == "cuda"
        if not on_gpu:
            require_cpp_compiler()
        self._compiled = torch.compile(
            network.forward, dynamic=not on_gpu, mode="reduce-overhead" if on_gpu else "default"
        )

    @property
    def execution(self) -> Execution:
        """What this runner is."""
        return execution_of(self.network.module, "torch_compile")

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name. Raises ValueError for an input that is missing or not declared."""
        self.network.check_names(inputs)
        if self.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        result = self._compiled(self.network.module, **inputs)
        values = result if isinstance(result, tuple) else (result,)
        if self.device.type == "cuda":  # a graph writes its next result over this one
            values = tuple(value.clone() for value in values)
        return dict(zip(self.network.outputs, values, strict=True))
