"""Linear layers that compute in eight bits: weights and inputs rounded, explicitly, by scales that were calibrated.

int8 has one scale for the input and one per output channel of the weights, and SmoothQuant (arXiv 2211.10438) before
both: what is large in an input channel is divided out of it and multiplied into the weights. fp8 (e4m3) has one scale
each: a float keeps its precision at every size.

This is our own because of what the libraries need: NVIDIA's ModelOpt 0.47 exports by TorchScript and pins older onnx
and onnxruntime; onnxruntime.quantization wants a float32 graph, a calibration inside ONNX Runtime, and Intel's library
for SmoothQuant; torchao writes no QuantizeLinear of fp8.
"""

import copy
from dataclasses import replace
from typing import Any

import torch

from ...engine.network import Network
from .calibration import Calibration
from .rounding import LARGEST, round_trip

EIGHT_BIT = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
"""The types of eight bits by the names of the precisions."""


class EightBitLinear(torch.nn.Module):
    """A linear layer of the weights of another; `maxima` [in] are the largest sizes of its input's channels."""

    def __init__(self, linear: torch.nn.Linear, maxima: torch.Tensor, precision: str, alpha: float) -> None:
        super().__init__()
        weight, kind = linear.weight.detach(), EIGHT_BIT[precision]
        dtype, maxima = weight.dtype, maxima.float().to(weight.device)
        smooth = _smoothing(weight.float(), maxima, alpha) if kind == torch.int8 else torch.ones_like(maxima)
        smoothed = weight.float() * smooth
        reach = smoothed.abs().amax(1) if kind == torch.int8 else smoothed.abs().amax()
        self.weight = torch.nn.Parameter(smoothed.to(dtype), requires_grad=False)
        self.bias = linear.bias
        self.register_buffer("divided", (1 / smooth).to(dtype) if kind == torch.int8 else None)
        for name, largest in (("input", (maxima / smooth).amax()), ("weight", reach)):
            scale = (largest / LARGEST[kind]).clamp_min(1e-8).to(dtype)
            self.register_buffer(f"{name}_scale", scale)
            self.register_buffer(f"{name}_zero", torch.zeros_like(scale).to(kind))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values [..., in] to [..., out]."""
        parts: Any = self  # buffers are typed as tensors or modules
        if parts.divided is not None:
            values = values * parts.divided
        rounded = round_trip(values, parts.input_scale, parts.input_zero)
        weight = round_trip(self.weight, parts.weight_scale, parts.weight_zero)
        return torch.nn.functional.linear(rounded, weight, self.bias)


def eight_bit_network(network: Network, calibration: Calibration, precision: str) -> Network:
    """The network with every calibrated linear layer in eight bits; weights and module of `network` stay as they are.

    Raises ValueError for a calibration that knows none of its layers.
    """
    module = copy.deepcopy(network.module)
    layers = {name: layer for name, layer in module.named_modules() if name in calibration.maxima}
    if not layers:
        raise ValueError(f"the calibration knows no layer of {network.name}")
    for name, layer in layers.items():
        parent, _, own = name.rpartition(".")
        eight = EightBitLinear(layer, calibration.maxima[name], precision, calibration.alpha)  # type: ignore[arg-type]
        setattr(module.get_submodule(parent), own, eight)
    return replace(network, module=module)


def _smoothing(weight: torch.Tensor, maxima: torch.Tensor, alpha: float) -> torch.Tensor:
    """What the channels of an input are divided by; 1 where a channel was never other than zero."""
    columns = weight.abs().amax(0).clamp_min(1e-8)
    smooth = (maxima.pow(alpha) / columns.pow(1 - alpha)).clamp(1e-4, 1e4)
    return torch.where(maxima > 1e-8, smooth, torch.ones_like(smooth))
