"""How large the inputs of linear layers get while the eager network draws: what eight-bit scales are made from.

The published recipe for Stable Diffusion 3 medium (NVIDIA ModelOpt: int8, SmoothQuant with alpha 0.8, 20 steps, the
embedders and the last projection left alone) calibrates on other people's prompts; here they are the user's, at the
guidance scales of the run, over all noise levels.
"""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from ...base.errors import PrefmillError
from ...engine.network import Network
from ...engine.sd3.step import Steps
from ...engine.sd3.text_to_image import TextToImage
from .samples import Listener

Method = Literal["largest", "min-mean"]
ALPHA = 0.8


@dataclass(frozen=True)
class Calibration:
    """Per linear layer, by its name in the module, the largest size [in] of each input channel; how it was measured.

    `samples` are rows of what the network was called with (`samples.py`).
    """

    maxima: Mapping[str, torch.Tensor]
    alpha: float = ALPHA
    source: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of everything that the scales follow from."""
        digest = hashlib.sha256(json.dumps([self.alpha, dict(self.source)], sort_keys=True).encode())
        for name, values in sorted(self.maxima.items()):
            digest.update(name.encode() + values.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


class Recorder:
    """Keeps what linear layers read: by layer, the largest size of each channel at every level."""

    def __init__(self, method: Method = "largest") -> None:
        self.method: Method = method
        self.level = 0
        self._kept: dict[str, dict[int, torch.Tensor]] = {}

    def see(self, name: str, values: torch.Tensor) -> None:
        """Take a layer's input [..., in] in."""
        found = values.detach().flatten(0, -2).abs().amax(0).float()
        levels = self._kept.setdefault(name, {})
        reduce = torch.maximum if self.method == "largest" else torch.minimum
        levels[self.level] = reduce(levels[self.level], found) if self.level in levels else found

    def maxima(self) -> dict[str, torch.Tensor]:
        """Of all levels: the largest; or the mean over them of the smallest that any call had ("min-mean")."""
        stacked = {name: torch.stack(list(levels.values())) for name, levels in self._kept.items()}
        return {
            name: (values.amax(0) if self.method == "largest" else values.mean(0)).cpu()
            for name, values in stacked.items()
        }


@contextmanager
def recording(network: Network, recorder: Recorder) -> Iterator[None]:
    """Record every linear layer of a network that may be in eight bits, for as long as the block runs."""
    hooks = []
    for name, layer in network.module.named_modules():
        if isinstance(layer, torch.nn.Linear) and not _kept_precise(name, network):
            hooks.append(layer.register_forward_pre_hook(_seen_by(recorder, name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def calibrate(
    text_to_image: TextToImage,
    prompts: Sequence[str],
    guidance: Sequence[float],
    *,
    steps: int = 20,
    method: Method = "largest",
    alpha: float = ALPHA,
) -> Calibration:
    """Draw each prompt once at each guidance scale with the eager engine, and keep how large inputs get.

    Raises PrefmillError without prompts or scales, and for an engine that does not run eagerly.
    """
    if not prompts or not guidance:
        raise PrefmillError("a calibration needs prompts and guidance scales.", "give --prompts FILE, some 32 of yours")
    runner = text_to_image.steps.guided
    if runner.execution.backend != "eager":
        raise PrefmillError(
            f"a calibration runs eagerly, and this engine is {runner.execution.backend}.", "--set engine.backend=eager"
        )
    recorder, side = Recorder(method), text_to_image.default_size
    listener = Listener(runner, steps * len(prompts))
    heard = copy.copy(text_to_image)  # the same networks, called through the listener
    heard.steps = Steps(listener, text_to_image.steps.plain)
    with recording(runner.network, recorder), torch.inference_mode():
        for number, prompt in enumerate(prompts):
            recorder.level = 0
            rows = [prompt] * len(guidance)
            seeds = [number * len(guidance) + row for row in range(len(guidance))]
            for state in heard.denoise(rows, guidance, seeds, steps=steps, width=side, height=side):
                recorder.level = state.step
    source = {
        "method": method,
        "prompts": len(prompts),
        "prompts_digest": hashlib.sha256("\0".join(prompts).encode()).hexdigest()[:16],
        "guidance": [float(scale) for scale in guidance],
        "steps": steps,
        "model": text_to_image.key,
    }
    return Calibration(recorder.maxima(), alpha, source, listener.samples())


def _kept_precise(name: str, network: Network) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in network.kept_precise or ())


def _seen_by(recorder: Recorder, name: str) -> Any:
    return lambda _, inputs: recorder.see(name, inputs[0])
