"""TensorRT and TensorRT for RTX: a plan on disk, run on the stream that torch runs on.

Written against the documentation of TensorRT 10 and 11 and of TensorRT for RTX 1.7, and never executed: there was no
GPU to do it. What a CPU can show is tested with a library that stands in for the real one: the order of the calls, the
shapes, the buffers and the errors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...base.errors import PrefmillError
from ..artifact import Artifact
from ..network import Network
from .engine_runner import EngineRunner
from .tensorrt_graphs import CapturedShape, GraphPool
from .tensorrt_library import PLAN_FILE, message_log, tensorrt_library, torch_type


class TensorRtRunner(EngineRunner):
    """Runs PLAN_FILE of an artifact.

    With `cuda_graphs` the kernels of a shape are recorded once and replayed: by the library itself where it can
    (TensorRT for RTX), else by torch. `library` is the package to use in place of that of the backend's name.
    """

    def __init__(
        self,
        network: Network,
        folder: Path,
        artifact: Artifact,
        device: torch.device,
        *,
        cuda_graphs: bool = False,
        library: Any = None,
    ) -> None:
        super().__init__(network, folder, artifact, device)
        self._library = library or tensorrt_library(artifact.identity.backend)
        self._log = message_log(self._library)
        # The engine lives no longer than the runtime that read it.
        self._runtime = self._library.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine((folder / PLAN_FILE).read_bytes())
        if self._engine is None:
            raise PrefmillError(
                f"the engine {folder.name} cannot be loaded: {self._reason()}.",
                f"rm -r {folder}, and build it on this machine with `prefmill compile build`",
            )
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        self._types = {name: torch_type(self._engine.get_tensor_dtype(name)) for name in names}
        records_itself = hasattr(self._library, "CudaGraphStrategy")
        self._context = self._make_context(records=cuda_graphs and records_itself)
        self._graphs = GraphPool(self._capture) if cuda_graphs and not records_itself else None

    def _execute(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        given = {name: self._checked(name, value) for name, value in inputs.items() if name in self._types}
        if self._graphs is not None:
            return self._graphs.run(given)
        outputs = self._bind(self._context, given)
        self._enqueue(self._context)
        return outputs

    def _checked(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """An input as the plan takes it, in one piece of memory: it reads an address, whatever lies there."""
        if value.device.type != self._device.type:
            raise ValueError(f"{self._network.name}: {name} is on {value.device}, the engine on {self._device}")
        return value.detach().contiguous()

    def _make_context(self, *, records: bool = False) -> Any:
        """An execution context; its profile is 0, the only one that is built."""
        if not records:
            return self._created(self._engine.create_execution_context())
        config = self._engine.create_runtime_config()
        config.cuda_graph_strategy = self._library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self._created(self._engine.create_execution_context(config))

    def _created(self, context: Any) -> Any:
        if context is None:
            raise PrefmillError(
                f"the engine {self.folder.name} cannot be started: {self._reason()}.",
                "free memory of the GPU, or build it with a smaller largest batch: --range batch=1:4:8",
            )
        return context

    def _bind(self, context: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Shapes and addresses for the next run; returns the outputs that it will write.

        The caller holds the inputs until the stream is past them: torch gives memory that is freed on a stream to what
        comes later on that stream, so that holding them until the run is queued is enough.
        """
        for name, value in inputs.items():
            if not context.set_input_shape(name, tuple(value.shape)):
                raise self._refused(f"{name} of {list(value.shape)} is refused")
            context.set_tensor_address(name, value.data_ptr())
        unknown = context.infer_shapes()
        if unknown:
            raise self._refused(f"the shapes of {', '.join(unknown)} do not follow from the inputs")
        outputs = {
            name: torch.empty(tuple(context.get_tensor_shape(name)), dtype=self._types[name], device=self._device)
            for name in self._network.outputs
        }
        for name, value in outputs.items():
            context.set_tensor_address(name, value.data_ptr())
        return outputs

    def _enqueue(self, context: Any) -> None:
        stream = torch.cuda.current_stream(self._device).cuda_stream if self._device.type == "cuda" else 0
        if not context.execute_async_v3(stream):
            raise self._refused("the run was not queued")

    def _capture(self, inputs: Mapping[str, torch.Tensor]) -> CapturedShape:
        """A context of its own for one shape, with the inputs' memory for good (`tensorrt_graphs.py` says why)."""
        context = self._make_context()
        return CapturedShape(dict(inputs), self._bind(context, inputs), lambda: self._enqueue(context))

    def _refused(self, what: str) -> PrefmillError:
        return PrefmillError(
            f"the engine {self.folder.name} failed: {what} ({self._reason()}).",
            "report it with the engine's manifest.json, and run eagerly: --set engine.backend=eager",
        )

    def _reason(self) -> str:
        return self._log.errors[-1][:400] if self._log.errors else "TensorRT gave no reason"
