import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.backends.catalogue import DIRECT, make_runner
from prefmill.engine.device import Execution
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.settings import EngineSettings

ROWS = Dimension("rows", 1, 2, 4)


def network(dtype=torch.float32, **fields) -> Network:
    inputs = {"left": Input((ROWS, 3)), "right": Input((1, Dimension("width", 2, 4, 8, 2)))}
    return Network("test", torch.nn.Linear(3, 2, dtype=dtype), _forward, inputs, ("product", "other"), **fields)


def _forward(module, left, right):
    return module(left), right


def test_named_tensors_in_named_tensors_out():
    declared = network()
    runner = make_runner(declared)
    weight, bias = declared.module.parameters()
    left, right = torch.randn(4, 3), torch.randn(1, 2)
    got = runner.run({"left": left, "right": right})
    assert list(got) == ["product", "other"]
    assert torch.equal(got["product"], torch.nn.functional.linear(left, weight, bias))
    assert got["other"] is right
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
    with pytest.raises(ValueError, match="backend"):
        EngineSettings.model_validate({"backend": "warp"})
    monkeypatch.setitem(DIRECT, "torch_compile", lambda declared: declared.name)
    assert make_runner(network(), EngineSettings(backend="torch_compile")) == "test"


def test_what_has_no_engine_runs_eagerly_under_every_backend():
    runner = make_runner(network(eager_only="it has none"), EngineSettings(backend="onnxruntime"))
    assert runner.execution.backend == "eager"
    assert runner.fallback == ""


def test_a_missing_engine_is_an_error_with_its_command_or_an_announced_fallback(tmp_path):
    settings = EngineSettings(device="cpu", backend="onnxruntime", artifacts=str(tmp_path))
    with pytest.raises(PrefmillError, match="prefmill compile build"):
        make_runner(network(), settings)
    runner = make_runner(network(), settings.model_copy(update={"missing": "eager"}))
    assert runner.execution.backend == "eager"
    assert "no onnxruntime engine of test" in runner.fallback


def test_sizes_and_samples_follow_from_the_declaration():
    declared = network()
    assert list(declared.dimensions) == ["rows", "width"]
    assert declared.batch == ROWS
    drawn = declared.sample({"rows": 3, "width": 6}, torch.bfloat16)
    assert {name: (tuple(value.shape), value.dtype) for name, value in drawn.items()} == {
        "left": ((3, 3), torch.bfloat16),
        "right": ((1, 6), torch.bfloat16),
    }
    assert declared.sizes_of(drawn) == {"rows": 3, "width": 6}
    with pytest.raises(ValueError, match=r"left is \[3, 4\]"):
        declared.sizes_of({**drawn, "left": torch.zeros(3, 4)})
