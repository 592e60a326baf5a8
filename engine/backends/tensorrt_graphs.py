"""CUDA graphs of a TensorRT engine: the kernels of one shape recorded once, and replayed with one launch.

A denoising step is hundreds of short kernels, whose launches can take longer than they do. TensorRT's guide ("Working
with CUDA Graphs") sets the terms: a recording belongs to one input size, to the addresses of its inputs and outputs,
and to the state of the execution context it was made from, so that each has a context of its own; and a context runs
once after a change of shape before it is recorded. Never executed by the project: there was no GPU to do it.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch

_KEPT = 4
"""Recordings at a time, the shape used longest ago goes first: each has the activations' memory of its own."""


class CapturedShape:
    """One shape: inputs and outputs at addresses that stay, and the recording between them."""

    def __init__(
        self,
        inputs: dict[str, torch.Tensor],
        outputs: dict[str, torch.Tensor],
        enqueue: Callable[[], None],
        *,
        record: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        enqueue()
        self._replay = (record or _record)(enqueue)

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Copy the inputs in, replay, and copy the outputs out: the next replay writes over them."""
        for name, value in inputs.items():
            self._inputs[name].copy_(value)
        self._replay()
        return {name: value.clone() for name, value in self._outputs.items()}


class GraphPool:
    """The recordings of an engine by the shapes of its inputs. `capture` makes one of inputs that it may keep."""

    def __init__(self, capture: Callable[[Mapping[str, torch.Tensor]], CapturedShape]) -> None:
        self._capture = capture
        self._shapes: OrderedDict[Any, CapturedShape] = OrderedDict()

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs by name, from the recording of these shapes."""
        key = tuple((name, tuple(value.shape)) for name, value in inputs.items())
        if key not in self._shapes:
            if len(self._shapes) >= _KEPT:
                self._shapes.popitem(last=False)
            self._shapes[key] = self._capture({name: value.clone() for name, value in inputs.items()})
        self._shapes.move_to_end(key)
        return self._shapes[key].run(inputs)


def _record(enqueue: Callable[[], None]) -> Callable[[], None]:
    """Torch records on a stream of its own, which is the current one meanwhile."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        enqueue()
    return graph.replay
