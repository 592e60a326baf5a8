"""Eight bits and back: one operation, which ONNX writes as a QuantizeLinear and a DequantizeLinear.

TensorRT and ONNX Runtime read the pair as "this product may be computed in eight bits"; torch computes the very numbers
that come of it. Symmetric always, as TensorRT wants it: zero is zero.
"""

from collections.abc import Callable
from typing import Any

import torch

LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


@torch.library.custom_op("prefmill::round_trip", mutates_args=())
def round_trip(values: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """Values [...] rounded to multiples of `scale` that the type of `zero` can hold.

    `scale` and `zero` are one number, or one per row of `values` [R, ...]; `scale` is of the type of `values`.
    """
    by_row = scale.reshape([-1] + [1] * (values.ndim - 1)) if scale.ndim else scale
    steps = values / by_row
    if zero.dtype == torch.int8:
        return steps.round().clamp(-128, 127) * by_row
    largest = LARGEST[zero.dtype]
    return steps.clamp(-largest, largest).to(zero.dtype).to(values.dtype) * by_row


@round_trip.register_fake
def _like_values(values: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(values)


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What the exporter to ONNX writes for the operation."""
    from onnxscript import opset20  # an extra

    def quantize_and_back(values: Any, scale: Any, zero: Any) -> Any:
        quantized: Any = opset20.QuantizeLinear(values, scale, zero, axis=0)
        return opset20.DequantizeLinear(quantized, scale, zero, axis=0)

    return {torch.ops.prefmill.round_trip.default: quantize_and_back}
