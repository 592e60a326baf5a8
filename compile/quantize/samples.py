"""Inputs that a network really had while it was calibrated: what an eight-bit engine is held against.

Its scales fit what the network reads when it draws. Noise in place of text and latents has other sizes in other
channels, and says nothing of such an engine: one that draws the right pictures was 0.6 off on it. So some rows of the
calibration's calls are kept beside the engine, from all noise levels.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ...engine.network import Dimension, Network
from ...engine.runner import Runner

SAMPLES = "samples.safetensors"
ROWS = 16
"""Kept of all calls: with prompts of 333 tokens and images of 1024 pixels they are 100 MB in float32."""


class Listener:
    """A runner that keeps rows of what it is called with; `calls` are how many there will be."""

    def __init__(self, runner: Runner, calls: int) -> None:
        self.runner = runner
        self.network, self.device, self.dtype = runner.network, runner.device, runner.dtype
        self.execution, self.fallback = runner.execution, runner.fallback
        self._kept = {round(place * (calls - 1) / max(ROWS - 1, 1)) for place in range(ROWS)}
        self._call = 0
        self._rows: dict[str, list[torch.Tensor]] = {}

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name."""
        if self._call in self._kept:
            row = len(next(iter(self._rows.values()), ())) % len(next(iter(inputs.values())))
            for name, value in inputs.items():
                self._rows.setdefault(name, []).append(
                    value[row : row + 1] if _is_batched(self.network, name) else value
                )
        self._call += 1
        return self.runner.run(inputs)

    def samples(self) -> dict[str, torch.Tensor]:
        """The rows [R, ...] of every input on the CPU; of one without a batch, its last value."""
        return {
            name: (torch.cat(rows) if _is_batched(self.network, name) else rows[-1]).cpu().contiguous()
            for name, rows in self._rows.items()
        }


def batch_of(
    network: Network, samples: Mapping[str, torch.Tensor], rows: int, first: int = 0
) -> dict[str, torch.Tensor]:
    """Inputs of `rows` rows, from the kept one of number `first` on and around."""
    batched = {name for name in samples if _is_batched(network, name)}
    count = len(samples[next(iter(batched))])
    chosen = torch.arange(first, first + rows) % count
    return {name: value[chosen] if name in batched else value for name, value in samples.items()}


def sides_of(network: Network, samples: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The sizes that the kept rows have of the dimensions other than the batch."""
    batch = network.batch
    return {name: size for name, size in network.sizes_of(samples).items() if batch is None or name != batch.name}


def save_samples(folder: Path, samples: Mapping[str, torch.Tensor]) -> None:
    """Write them beside an engine."""
    save_file(dict(samples), folder / SAMPLES)


def load_samples(folder: Path) -> dict[str, torch.Tensor] | None:
    """Those beside an engine, where it has any."""
    return load_file(folder / SAMPLES) if (folder / SAMPLES).is_file() else None


def _is_batched(network: Network, name: str) -> bool:
    first = network.inputs[name].axes[:1]
    return bool(first) and isinstance(first[0], Dimension) and first[0] == network.batch
