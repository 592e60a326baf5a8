"""On a GPU, no operation waits for the device, reads a value back, or copies between host and device.

The launches' own Python runs on torch's meta tensors, which have a shape, a type and a device other than the host's,
and no values: whatever depends on a value raises. Kernels are not run; what they are handed is looked at.
"""

from typing import Any

import pytest
import torch
from prefmill.kernels import triton_support
from prefmill.kernels.catalogue import OPS
from prefmill.kernels.guided_step import stochastic_step
from prefmill.kernels.logprob import token_logprobs, token_statistics
from prefmill.kernels.operation import Case
from prefmill.kernels.pixels import kernel as pixels_kernel
from prefmill.kernels.preference import preference_loss
from prefmill.kernels.registration import BODIES
from torch.utils._python_dispatch import TorchDispatchMode  # the documented way to see every operation
from torch.utils._pytree import tree_leaves, tree_map

triton = pytest.importorskip("triton", reason="Triton is not installed here (Linux only)")
CPU, DEVICE = torch.device("cpu"), torch.device("meta")
SMALL = {"N": 9, "D": 64, "V": 701, "H": 32, "W": 40, "B": 2, "S": 8, "A": 19}


class Watch(TorchDispatchMode):
    """Runs the bodies of our operations; refuses copies between devices; notes launches."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in BODIES:
            with self:
                return BODIES[func](*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)}
        assert len(devices) < 2, f"{func} copies between {devices}"
        return result

    def launch(self, kernel: Any, *args: Any, grid: Any, warmup: bool, **settings: Any) -> None:
        assert all(type(size) is int and size > 0 for size in grid)
        for value in (*args, *settings.values()):
            if isinstance(value, torch.Tensor):
                assert value.device == DEVICE, "a tensor of the host"
            else:
                assert isinstance(value, int | float), f"{value!r} is no argument of a kernel"
        self.launches.append(kernel.fn.__name__)


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(triton_support, "INTERPRETED", True)  # kernels run on every device
    mode = Watch()

    def run(kernel: Any, *args: Any, **settings: Any) -> None:
        mode.launch(kernel, *args, **settings)

    monkeypatch.setattr(triton.runtime.jit.JITFunction, "run", run)
    with mode:
        yield mode


def empty(*shape: int, dtype: torch.dtype = torch.float32, grad: bool = False) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device=DEVICE, requires_grad=grad)


def on_device(inputs: Any) -> Any:
    return tree_map(lambda leaf: empty(*leaf.shape, dtype=leaf.dtype) if torch.is_tensor(leaf) else leaf, inputs)


CASES = [(op, case) for op in OPS for case in (*op.cases, *op.gpu_cases)]


@pytest.mark.parametrize("place", range(len(CASES)), ids=[f"{op.name} {case}" for op, case in CASES])
def test_every_operation(place, request, monkeypatch):
    op, case = CASES[place]
    sizes = {name: SMALL.get(name, 3) for name in case.sizes}
    given = op.make(Case("small", sizes, case.dtype, case.options), CPU)
    if op.name == "pixels":  # what is kept per size of image is made on the host, once
        described = pixels_kernel._describe(*given["images"].shape[2:], tuple(given["targets"]), CPU)
        monkeypatch.setattr(pixels_kernel, "_describe", lambda *_: on_device(described))
    watch = request.getfixturevalue("watch")
    for function in (op.public, *op.variants):
        if not function.__name__.startswith("parallel"):
            function(**on_device(given))
    assert watch.launches


def test_what_is_looked_at_is_found(watch):
    """The net holds: what used to be in the code raises."""
    values = empty(4)
    for look in (
        lambda: bool((values < 0).any()),
        values.tolist,
        values.nonzero,
        values.unique,
        lambda: values[values > 0],
        lambda: torch.equal(values, values),
        lambda: torch.zeros(3).to(DEVICE),
        lambda: values.copy_(torch.zeros(4)),
    ):
        with pytest.raises((RuntimeError, AssertionError, NotImplementedError)):
            look()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("function", [token_logprobs, token_statistics])
def test_log_probabilities_with_gradients(watch, function, trained, dtype):
    """With everything a head may have."""
    hidden, weight = empty(9, 64, dtype=dtype, grad=True), empty(701, 64, dtype=dtype, grad=trained)
    bias, targets = empty(701, grad=trained), empty(9, dtype=torch.int64)
    got = function(hidden, weight, targets, bias, 0.7, 9.0)
    (got if torch.is_tensor(got) else got.logp).sum().backward()
    for leaf in (hidden, weight, bias) if trained else (hidden,):
        assert leaf.grad is not None
        assert (leaf.grad.shape, leaf.grad.dtype) == (leaf.shape, leaf.dtype)
    assert watch.launches == ["softmax_rows"] * (2 if trained else 1)


def test_preferences_with_gradients(watch):
    logps, segments = empty(50, dtype=torch.bfloat16, grad=True), empty(50, dtype=torch.int64)
    preference_loss(logps, segments, 3, reference_N=empty(50), image_weight=0.5).loss.mean().backward()
    assert logps.grad is not None
    assert watch.launches == ["preference_pairs"]


def test_stochastic_steps_with_gradients(watch):
    sample, noise = (empty(2, 16, 8, 8, dtype=torch.bfloat16) for _ in range(2))
    prompted, unprompted = (empty(2, 16, 8, 8, dtype=torch.bfloat16, grad=True) for _ in range(2))
    stochastic_step(sample, prompted, unprompted, *(empty(2) for _ in range(3)), noise=noise).logp.sum().backward()
    assert prompted.grad is not None
    assert watch.launches == ["flow_step", "flow_step_backward"]
