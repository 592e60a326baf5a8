"""How many images a device's memory holds at a time: from a checkpoint's configs alone, before any weight is loaded.

The networks are built without storage (torch's meta device) and run once on shapes: what lives at the same time is
counted tensor by tensor, so the estimate follows the real code of the libraries and no formula of ours. Attention
counts as the fused kernels have it, without the matrix of weights. What the libraries hold besides, for packed matrices
or convolutions, and what the C library keeps of what was freed, is no tensor: a share and a constant stand for it.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ..network import Network
from .components import meta_components
from .decode import decoder_network
from .step import step_network

ALLOWANCE = 0.8
"""Of the free memory: the share that is counted on; the rest is for what other processes take later."""
BESIDE = 1.5, 64 * 2**20
"""What is counted is multiplied by the first, and the second is added, for memory that is no tensor. On a CPU torch's
allocator held 0.88 to 0.98 of what is counted for a step of 36 M parameters (1, 4 and 8 images), and the process grew
by 2 to 59 MB more than that; by 36 to 87 MB for a decoder of 256 pixels (docs/engines.md)."""
CLIP_TOKENS = 77


class LiveBytes(TorchFunctionMode):
    """Counts the bytes of tensors that torch functions return and that still live; `peak` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function and count what it made."""
        given = dict(kwargs or {})
        if func is scaled_dot_product_attention:  # on meta torch takes the path that writes the weights out
            query, value = args[0], given.get("value", args[-1])
            result = query.new_empty((*query.shape[:-1], value.shape[-1]))
        else:
            result = func(*args, **given)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor)
        return result

    def count(self, tensor: torch.Tensor) -> None:
        """Take a tensor's storage into account until it is freed; views share one."""
        storage = tensor.untyped_storage()
        if id(storage) not in self._known:
            self._known.add(id(storage))
            self._change(storage.nbytes())
            weakref.finalize(storage, self._freed, id(storage), storage.nbytes())

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._change(-size)

    def _change(self, size: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)


def peak_bytes(network: Network, sizes: Mapping[str, int], dtype: torch.dtype) -> int:
    """The most bytes that one call of a network holds at a time besides its weights, inputs counted.

    The network's module lies on the meta device.
    """
    device = torch.device("meta")
    inputs = {name: value.to(device) for name, value in network.sample(sizes, dtype).items()}
    with LiveBytes() as counter, torch.inference_mode():
        for value in inputs.values():
            counter.count(value)
        network.forward(network.module, **inputs)
    return counter.peak


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes. `step` and `decoding` are what is counted for one image and per further one."""

    weights: int
    """Of those that stay on the device."""
    step: tuple[int, int]
    decoding: tuple[int, int]
    picture: int = 0
    """Of one image in float32: all of a batch are held while they are decoded in parts, three times while rounded."""
    visitor: int = 0
    """Of weights that come to the device to encode text, and leave it before the first step."""

    def peak(self, images: int, decoded: int | None = None) -> int:
        """The most that a batch of images takes; `decoded` of them are decoded at a time."""
        first, more = self.step
        second, further = self.decoding
        decoding = second + (min(images, decoded or images) - 1) * further + images * self.picture
        share, constant = BESIDE
        counted = max(first + (images - 1) * more, decoding, 3 * images * self.picture)
        return self.weights + max(self.visitor, round(counted * share) + constant)

    def images(self, free: int, decoded: int | None, most: int) -> int:
        """How many images, at most `most`, fit into free bytes; 0 where not even one does."""
        fitting = (count for count in range(most, 0, -1) if self.peak(count, decoded) <= free * ALLOWANCE)
        return next(fitting, 0)


def estimate_memory(
    folder: Path, dtype: torch.dtype, *, t5_tokens: int, width: int | None, height: int | None, t5_stays: bool = True
) -> MemoryEstimate:
    """The estimate for a checkpoint's folder, of which only configs are read. Raises PrefmillError for what is none."""
    transformer, autoencoder, encoders = meta_components(folder, dtype)
    *clips, long = encoders
    weights = sum(_bytes(module) for module in (transformer, autoencoder, *clips))
    t5 = 0 if long is None else _bytes(long)
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    side = int(transformer.config.sample_size)
    sizes = {"height": (height or side * factor) // factor, "width": (width or side * factor) // factor}

    def measured(network: Network) -> tuple[int, int]:
        one, two = (peak_bytes(network, {**sizes, "batch": batch}, dtype) for batch in (1, 2))
        return one, two - one

    return MemoryEstimate(
        weights + (t5 if t5_stays else 0),
        measured(step_network(transformer, CLIP_TOKENS + t5_tokens, guided=True)),
        measured(decoder_network(autoencoder, transformer.config)),
        picture=3 * sizes["height"] * sizes["width"] * factor**2 * torch.float32.itemsize,
        visitor=0 if t5_stays else t5,
    )


def free_bytes(device: torch.device) -> int:
    """The memory that is free on a device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(available.split()[1]) * 1024


def _bytes(module: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
