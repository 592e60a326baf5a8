"""Weights that rest in the host's memory and come to a device only while they are used."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def visiting(module: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Have a module on `device`; afterwards its tensors are the very ones they were, and nothing is copied back.

    What it computes has the bits that it has where it always lies on that device.
    """
    resting = [(tensor, tensor.data) for tensor in (*module.parameters(), *module.buffers())]
    try:
        for tensor, data in resting:
            tensor.data = data.to(device)
        yield
    finally:
        for tensor, data in resting:
            tensor.data = data
