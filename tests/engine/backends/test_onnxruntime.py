import pytest
import torch
from prefmill.compile.build import build_engine
from prefmill.engine.backends.onnxruntime import OnnxRuntimeRunner
from prefmill.engine.network import Dimension, Input, Network

onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
CPU = torch.device("cpu")


def forward(module, values, shift):
    return module(values) + shift, values.sum(1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A network with a batched input and one that every row shares, its folder and its manifest."""
    torch.manual_seed(0)
    inputs = {"values": Input((Dimension("batch", 1, 4, 64), 32)), "shift": Input((1, 8))}
    network = Network("rows", torch.nn.Linear(32, 8).eval(), forward, inputs, ("moved", "sums"))
    return network, *build_engine(network, "onnxruntime", "float32", CPU, tmp_path_factory.mktemp("engines"))


@pytest.fixture
def calls(monkeypatch):
    """(threads, rows) of every call of a session."""
    made = []

    class Session(onnxruntime.InferenceSession):
        def run(self, output_names, input_feed, run_options=None):
            made.append((self.get_session_options().intra_op_num_threads, len(input_feed["values"])))
            return super().run(output_names, input_feed, run_options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return made


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(
    ("rows", "wanted"),
    [(64, [(1, 21), (1, 21), (1, 22)]), (3, [(1, 1)] * 3), (2, [(3, 2)]), (1, [(3, 1)])],
    ids=["many", "as many as cores", "fewer than cores", "one"],
)
def test_cores_share_the_rows_of_a_call_or_where_there_are_too_few_its_operations(engine, calls, rows, wanted):
    network, folder, artifact = engine
    runner = OnnxRuntimeRunner(network, folder, artifact, CPU)
    inputs = network.sample({"batch": rows}, torch.float32, seed=rows)
    with torch.inference_mode():
        found = runner.run(inputs)
        moved, sums = forward(network.module, **inputs)
    assert sorted(calls) == wanted
    torch.testing.assert_close(found["moved"], moved, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["sums"], sums, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("three_threads")
def test_few_and_many_rows_in_turn_have_the_values_of_single_rows(engine, calls):
    network, folder, artifact = engine
    runner = OnnxRuntimeRunner(network, folder, artifact, CPU)
    inputs = network.sample({"batch": 7}, torch.float32)
    whole = runner.run(inputs)
    for row in range(7):
        alone = runner.run({"values": inputs["values"][row : row + 1], "shift": inputs["shift"]})
        for name, value in alone.items():
            torch.testing.assert_close(value[0], whole[name][row], rtol=1e-5, atol=1e-6)
    assert torch.equal(runner.run(inputs)["moved"], whole["moved"])
    assert sorted(set(calls)) == [(1, 2), (1, 3), (3, 1)]
