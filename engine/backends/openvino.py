"""OpenVINO on a CPU: float32, or bfloat16 where the CPU multiplies in it.

Weights stay float32 on disk; the runtime makes its own bfloat16 of them when it loads, and takes and gives float32.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from ...base.errors import PrefmillError
from ..artifact import Artifact
from ..device import why_no_bfloat16
from ..network import Network
from .engine_runner import EngineRunner

MODEL_FILE = "model.xml"
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def check_cpu(precision: str) -> None:
    """Raise PrefmillError for bfloat16 on a CPU that would compute it in float32 with conversions between."""
    if precision == "bfloat16" and (reason := why_no_bfloat16()):
        raise PrefmillError(f"openvino has no bfloat16 here: {reason}.", "--set engine.dtype=float32")


class OpenVinoRunner(EngineRunner):
    """Runs MODEL_FILE of an artifact."""

    def __init__(self, network: Network, folder: Path, artifact: Artifact, device: torch.device) -> None:
        super().__init__(network, folder, artifact, device)
        import openvino  # an extra

        check_cpu(artifact.identity.precision)
        model = openvino.Core().compile_model(
            str(folder / MODEL_FILE),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                # Said always: where the CPU has bfloat16, it is OpenVINO's default.
                "INFERENCE_PRECISION_HINT": _PRECISIONS[artifact.identity.precision],
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        taken = {name for port in model.inputs for name in port.get_names()}
        self._taken = [name for name in network.inputs if name in taken]
        self._request = model.create_infer_request()

    def _execute(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        feed = {name: inputs[name].detach().contiguous().numpy() for name in self._taken}
        # Inputs are read where they lie. Outputs are copied: the next call writes into the request's own.
        found = self._request.infer(feed, share_inputs=True, share_outputs=False)
        return {name: torch.from_numpy(found[name]) for name in self._network.outputs}
