"""How the kernel benchmark measures: time, memory, the machine's own ceilings, and correctness before all of them.

Providers take turns within one run, so that a machine that slows down slows all of them. On a GPU the clock is CUDA
events, and each sample begins with a cold cache; on a CPU it is the time the process itself spent, with one thread,
which other processes do not add to.
"""

import statistics
import time
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode  # the documented way to see every operation's results
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..kernels.operation import Case, Op
from ..kernels.registration import BODIES
from .kernel_providers import Provider

Samples = dict[str, list[float]]
_FLUSHED_BYTES = 256 << 20  # several times the L2 cache of any GPU so far


def seconds(device: torch.device, work: Callable[[], Any]) -> float:
    """How long `work` takes; on a GPU with nothing of what it reads in the L2 cache."""
    if device.type != "cuda":
        start = time.process_time()
        work()
        return time.process_time() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    _flush_cache(device)
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def _flush_cache(device: torch.device) -> None:
    """Overwrite a GPU's L2 cache: a run after a run of the same would else find its inputs there."""
    _flush_buffer(device).zero_()


@cache
def _flush_buffer(device: torch.device) -> torch.Tensor:
    return torch.empty(_FLUSHED_BYTES, dtype=torch.uint8, device=device)


def ceilings(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[float, float]:
    """FLOP/s of a large matmul in `dtype`, and bytes/s of a copy (read and written), measured now."""
    gpu = device.type == "cuda"
    side = 8192 if gpu else 256 if quick else 1536
    matrix = torch.randn(side, side).to(device, dtype if dtype.is_floating_point else torch.float32)
    source = torch.empty((4 << 30) if gpu else (4 << 20) if quick else (256 << 20), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    repeats = 3 if quick else 9
    for _ in range(2):
        torch.mm(matrix, matrix)
        target.copy_(source)
    product = min(seconds(device, lambda: torch.mm(matrix, matrix)) for _ in range(repeats))
    copy = min(seconds(device, lambda: target.copy_(source)) for _ in range(repeats))
    return 2 * side**3 / product, 2 * len(source) / copy


def operations(work: Callable[[], Any]) -> int:
    """How many floating-point operations `work` takes, by the shapes of its products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


class _Live(TorchDispatchMode):
    """The most bytes of tensors alive at once, beyond those that were there before."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak, self.seen = 0, 0, set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in BODIES:  # one of ours, whose own tensors count as well
            with self:
                return BODIES[func](*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        known = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        for leaf in tree_leaves(result):
            if torch.is_tensor(leaf) and leaf.untyped_storage().data_ptr() not in known | self.seen:
                storage = leaf.untyped_storage()
                place, size = storage.data_ptr(), storage.nbytes()
                self.seen.add(place)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, place, size)
        return result

    def _gone(self, place: int, size: int) -> None:
        self.seen.discard(place)
        self.now -= size


def peak_memory(device: torch.device, work: Callable[[], Any]) -> int:
    """Bytes that `work` has alive at its worst moment, its inputs left out."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with _Live() as live:
        work()
    return live.peak


class Trial:
    """One provider on one case: run once for its values, then as often as asked for its times."""

    def __init__(self, op: Op, provider: Provider, inputs: dict[str, Any], device: torch.device) -> None:
        self.device, self.provider = device, provider
        self.inputs = dict(inputs)
        self.leaves: list[torch.Tensor] = []
        for name in op.differentiable:
            self.inputs[name] = inputs[name].detach().clone().requires_grad_()
            self.leaves.append(self.inputs[name])
        self.times: Samples = {}

    def values(self) -> list[torch.Tensor]:
        """The output, and the gradients of its sum weighted unequally."""
        output = self.provider(**self.inputs)
        if not self.leaves:
            return [output]
        return [output.detach(), *torch.autograd.grad(output, self.leaves, self._weights(output))]

    def once(self) -> None:
        """One sample of every mode."""
        with torch.no_grad():
            self._note("forward", seconds(self.device, lambda: self.provider(**self.inputs)))
        if not self.leaves:
            return
        kept: list[torch.Tensor] = []
        there = seconds(self.device, lambda: kept.append(self.provider(**self.inputs)))
        weights = self._weights(kept[0])
        back = seconds(self.device, lambda: torch.autograd.grad(kept[0], self.leaves, weights))
        self._note("backward", back)
        self._note("both", there + back)

    def memory(self) -> int:
        """Bytes at the worst moment of forward and backward."""
        return peak_memory(self.device, lambda: self.values() if self.leaves else self.provider(**self.inputs))

    def _note(self, mode: str, value: float) -> None:
        self.times.setdefault(mode, []).append(value)

    @staticmethod
    def _weights(output: torch.Tensor) -> torch.Tensor:
        return torch.linspace(-1.5, 2, output.numel(), device=output.device, dtype=output.dtype).view_as(output)


def disagreement(found: list[torch.Tensor], expected: list[torch.Tensor], case: Case) -> str | None:
    """What is wrong with a provider's values, judged by the type's precision; None where nothing is."""
    unit = {torch.bfloat16: 0.05, torch.float16: 0.01}.get(case.dtype, 1e-3)
    for mine, theirs in zip(found, expected, strict=True):
        error = (mine.double() - theirs.double()).nan_to_num(0).norm()
        if float(error) > unit * float(theirs.double().nan_to_num(0).norm()) or bool(
            (mine.isnan() != theirs.isnan()).any()
        ):
            return f"differs from the reference by {float(error / theirs.double().norm()):.2g} of its norm"
    return None


def quantiles(samples: list[float]) -> tuple[float, float, float]:
    """Median, 20 % and 80 % quantile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    cuts = statistics.quantiles(samples, n=10, method="inclusive")
    return statistics.median(samples), cuts[1], cuts[7]
