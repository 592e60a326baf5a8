"""Weights that rest in the host's memory and come to a device only while they are used."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def visiting(module: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Have a module's weights on `device`; afterwards they are the very ones they were, and nothing is copied back.

    What it computes has the bits that it has where it always lies on that device.
    """
    resting = [
        (part, name, tensor)
        for part in module.modules()
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
    ]
    moved: dict[int, torch.Tensor] = {}  # by what it was: weights that several parts share are moved once
    try:
        for part, name, tensor in resting:
            if tensor.device != device:
                if id(tensor) not in moved:
                    copy = tensor.detach().to(device)
                    is_weight = isinstance(tensor, torch.nn.Parameter)
                    moved[id(tensor)] = torch.nn.Parameter(copy, requires_grad=False) if is_weight else copy
                setattr(part, name, moved[id(tensor)])
        yield
    finally:
        for part, name, tensor in resting:
            setattr(part, name, tensor)
