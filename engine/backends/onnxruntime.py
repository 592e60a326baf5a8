"""ONNX Runtime on a CPU: float32, its own graph optimisations, tensors shared without a copy.

The cores share a call by its rows where there are enough of them, each with one thread: rows do not wait for each
other, as the threads of one operation do after every operation.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ..artifact import Artifact
from ..network import Network
from .engine_runner import EngineRunner

MODEL_FILE = "model.onnx"


class OnnxRuntimeRunner(EngineRunner):
    """Runs MODEL_FILE of an artifact with as many threads as torch had when it was made."""

    def __init__(self, network: Network, folder: Path, artifact: Artifact, device: torch.device) -> None:
        super().__init__(network, folder, artifact, device)
        self._cores = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._cores, thread_name_prefix=network.name)
        optimum = artifact.ranges[network.batch.name][1] if network.batch else 1
        self._held = self._open(1 if optimum >= self._cores else self._cores)
        self._taken = {entry.name for entry in self._held[1].get_inputs()}

    def _execute(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        network = self._network
        if self._cores == 1 or network.rows(inputs) < self._cores:
            return self._call(self._session_of(self._cores), inputs)
        session, parts = self._session_of(1), network.split(inputs, self._cores)
        return network.join(list(self._pool.map(lambda part: self._call(session, part), parts)))

    def _call(self, session: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        feed = {name: value.detach().contiguous().numpy() for name, value in inputs.items() if name in self._taken}
        values = session.run(list(self._network.outputs), feed)
        return {name: torch.from_numpy(value) for name, value in zip(self._network.outputs, values, strict=True)}

    def _session_of(self, threads: int) -> Any:
        """The session with so many threads. One at a time is held, since each has the weights."""
        held = self._held
        if held[0] != threads:
            self._held = held = (0, None)
            self._held = held = self._open(threads)
        return held[1]

    def _open(self, threads: int) -> tuple[int, Any]:
        import onnxruntime  # an extra

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # A waiting thread that spins takes the core from whatever else runs: see docs/architecture.md.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Sums of two products of eight bits overflow sixteen on CPUs without VNNI; then the wider product is taken.
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 3
        model = str(self.folder / MODEL_FILE)
        return threads, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
