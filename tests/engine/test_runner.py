import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.backends import BACKENDS, make_runner
from prefmill.engine.device import Execution
from prefmill.engine.runner import Network


def network(dtype=torch.float32) -> Network:
    def forward(module, left, right=None):
        return module(left), (left if right is None else right)

    return Network("test", torch.nn.Linear(3, 2, dtype=dtype), forward, ("left",), ("product", "other"), ("right",))


def test_named_tensors_in_named_tensors_out():
    declared = network()
    runner = make_runner(declared)
    weight, bias = declared.module.parameters()
    left, right = torch.randn(4, 3), torch.randn(1)
    got = runner.run({"left": left, "right": right})
    assert list(got) == ["product", "other"]
    assert torch.equal(got["product"], torch.nn.functional.linear(left, weight, bias))
    assert got["other"] is right
    assert runner.run({"left": left})["other"] is left
    assert got["product"].requires_grad, "gradients are the caller's choice"


@pytest.mark.parametrize("inputs", [{}, {"right": 1}, {"left": 1, "third": 2}])
def test_inputs_that_are_not_declared(inputs):
    with pytest.raises(ValueError, match=r"missing \[.*unknown \["):
        make_runner(network()).run({name: torch.zeros(1, 3) for name in inputs})


def test_execution_is_what_the_weights_are():
    runner = make_runner(network(torch.bfloat16))
    assert runner.execution == Execution("eager", "bfloat16", "cpu")
    assert (runner.dtype, runner.device) == (torch.bfloat16, torch.device("cpu"))


def test_a_backend_is_chosen_by_name(monkeypatch):
    with pytest.raises(PrefmillError, match="no backend 'warp'"):
        make_runner(network(), "warp")
    monkeypatch.setitem(BACKENDS, "warp", lambda declared: declared.name)
    assert make_runner(network(), "warp") == "test"
