"""ONNX Runtime on a CPU: float32, its own graph optimisations, tensors shared without a copy."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..artifact import Artifact
from ..network import Network
from .engine_runner import EngineRunner

MODEL_FILE = "model.onnx"


class OnnxRuntimeRunner(EngineRunner):
    """Runs MODEL_FILE of an artifact."""

    def __init__(self, network: Network, folder: Path, artifact: Artifact, device: torch.device) -> None:
        super().__init__(network, folder, artifact, device)
        import onnxruntime  # an extra

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # A waiting thread that spins takes the core from whatever else runs: see docs/architecture.md.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Sums of two products of eight bits overflow sixteen on CPUs without VNNI; then the wider product is taken.
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._taken = {entry.name for entry in self._session.get_inputs()}

    def _execute(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        feed = {name: value.detach().contiguous().numpy() for name, value in inputs.items() if name in self._taken}
        values = self._session.run(list(self._network.outputs), feed)
        return {name: torch.from_numpy(value) for name, value in zip(self._network.outputs, values, strict=True)}
