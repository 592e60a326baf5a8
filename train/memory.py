"""What a training keeps in the memory of one device, counted from the model's shape. Weights are exact, activations
are an estimate.

A layer keeps 34 bytes per token and unit of its width in half precision (arXiv 2205.05198, eq. 2, without the square of
the attention, which flash and flex attention do not keep), twice that in float32. With gradient checkpointing it keeps
its input alone, and one layer at a time is computed again. The vision tower's activations, answers' logits, buffers and
what the allocator loses are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from .settings import DPOTrainingConfig
from .shape import ModelShape

_ACTIVATIONS = 17  # numbers per token and unit of the width: 34 bytes of half precision
_NF4 = 0.5 + (1 + 4 / 256) / 64  # bytes a weight: 4 bits, and per 64 of them a scale of 8 bits, doubly quantised


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on each device. `checkpointed`: what `activations` would be with gradient checkpointing."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    checkpointed: float

    def total(self, *, checkpointing: bool) -> float:
        """Return all of them, with activations of one of the two kinds."""
        kept = self.checkpointed if checkpointing else self.activations
        return self.weights + self.adapter + self.gradients + self.optimizer + kept


def training_memory(shape: ModelShape, config: DPOTrainingConfig, *, tokens: int, number: int) -> TrainingMemory:
    """Return what a training keeps on each device. `tokens` in the longest micro-batch; a `number` has so many bytes.

    AdamW has two moments in float32; under ZeRO-2 also a float32 copy of an adapter that is in the training's
    precision, and these and the gradients are shared by all processes. Without, the adapter is in float32.
    """
    quantised = shape.quantisable if config.base_bits else 0
    adapter = config.lora_rank * shape.adapter_weights
    processes = config.processes * config.nodes if config.zero_stage else 1
    adapter_number, states = (number, 12) if config.zero_stage else (4, 8)
    layer = tokens * shape.width * number
    return TrainingMemory(
        weights=(shape.parameters - quantised) * number + quantised * _NF4,
        adapter=adapter * adapter_number,
        gradients=adapter * adapter_number / processes,
        optimizer=adapter * states / processes,
        activations=shape.layers * layer * _ACTIVATIONS,
        checkpointed=(shape.layers + _ACTIVATIONS) * layer,
    )
