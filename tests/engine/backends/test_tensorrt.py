"""The TensorRT runner against a library that stands in for the real one, and computes at the addresses it is given."""

import ctypes
from types import SimpleNamespace

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.artifact import Artifact, identity_of, ranges_of
from prefmill.engine.backends.tensorrt import TensorRtRunner
from prefmill.engine.backends.tensorrt_graphs import CapturedShape, GraphPool
from prefmill.engine.backends.tensorrt_library import PLAN_FILE
from prefmill.engine.network import Dimension, Input, Network, whole_numbers

BATCH = Dimension("batch", 1, 2, 4)
NETWORK = Network(
    "toy",
    torch.nn.Linear(3, 2),
    lambda module, points, times: (module(points) * times[:, None], points.sum(1)),
    {"points": Input((BATCH, 3)), "times": Input((BATCH,), torch.int64, whole_numbers(1, 5))},
    ("product", "total"),
)
TYPES = {"points": "FLOAT", "times": "INT64", "product": "FLOAT", "total": "FLOAT"}
TORCH = {"FLOAT": torch.float32, "INT64": torch.int64}


def at(address, shape, kind):
    """The tensor that lies at an address."""
    empty = torch.empty(shape, dtype=TORCH[kind])
    memory = (ctypes.c_char * (empty.numel() * empty.element_size())).from_address(address)
    return torch.frombuffer(memory, dtype=TORCH[kind]).view(shape)


class Context:
    def __init__(self, calls, config=None):
        self.calls, self.shapes, self.addresses, self.config = calls, {}, {}, config
        self.queued = True

    def set_input_shape(self, name, shape):
        self.calls.append(("shape", name))
        self.shapes[name] = shape
        return shape[0] <= 4

    def set_tensor_address(self, name, address):
        self.calls.append(("address", name))
        self.addresses[name] = address
        return True

    def infer_shapes(self):
        self.calls.append(("infer",))
        rows = self.shapes["points"][0]
        self.shapes |= {"product": (rows, 2), "total": (rows,)}
        return []

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def execute_async_v3(self, stream):
        self.calls.append(("execute", stream))
        given = {name: at(self.addresses[name], self.shapes[name], TYPES[name]) for name in NETWORK.inputs}
        with torch.no_grad():
            values = NETWORK.forward(NETWORK.module, **given)
        for name, value in zip(NETWORK.outputs, values, strict=True):
            at(self.addresses[name], self.shapes[name], TYPES[name]).copy_(value)
        return self.queued


class Engine:
    def __init__(self):
        self.calls, self.contexts = [], []
        self.num_io_tensors = len(TYPES)
        self.full = False

    def get_tensor_name(self, number):
        return list(TYPES)[number]

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name=TYPES[name])

    def create_runtime_config(self):
        return SimpleNamespace(cuda_graph_strategy="disabled")

    def create_execution_context(self, config=None):
        if self.full:
            return None
        self.contexts.append(Context(self.calls, config))
        return self.contexts[-1]


class Logger:
    Severity = SimpleNamespace(ERROR=1)

    def __init__(self):
        pass


def library(engine, **more):
    class Runtime:
        def __init__(self, log):
            self.log = log

        def deserialize_cuda_engine(self, plan):
            if plan != b"plan":
                self.log.log(1, "the version does not\nmatch")
                self.log.log(2, "a warning")
                return None
            return engine

    return SimpleNamespace(ILogger=Logger, Runtime=Runtime, **more)


@pytest.fixture
def artifact():
    return Artifact(
        identity=identity_of(NETWORK, "tensorrt", "float32"), targets=("sm_80",), ranges=ranges_of(NETWORK), files={},
        build_seconds=0, peak_bytes=0, created="",
    )  # fmt: skip


@pytest.fixture
def runner(tmp_path, artifact):
    (tmp_path / PLAN_FILE).write_bytes(b"plan")
    return lambda engine, **more: TensorRtRunner(
        NETWORK, tmp_path, artifact, torch.device("cpu"), library=library(engine, **more.pop("parts", {})), **more
    )


def wanted(inputs):
    with torch.no_grad():
        return dict(zip(NETWORK.outputs, NETWORK.forward(NETWORK.module, **inputs), strict=True))


def same(found, inputs):
    return all(torch.equal(found[name], value) for name, value in wanted(inputs).items())


def test_shapes_then_addresses_then_the_run(runner):
    engine = Engine()
    inputs = NETWORK.sample({"batch": 3}, torch.float32)
    assert same(runner(engine).run(inputs), inputs)
    assert engine.calls == [
        ("shape", "points"), ("address", "points"), ("shape", "times"), ("address", "times"), ("infer",),
        ("address", "product"), ("address", "total"), ("execute", 0),
    ]  # fmt: skip


def test_every_call_has_outputs_of_its_own_and_large_batches_go_in_parts(runner):
    engine = Engine()
    made = runner(engine)
    first = NETWORK.sample({"batch": 2}, torch.float32, seed=1)
    kept = made.run(first)
    large = NETWORK.sample({"batch": 7}, torch.float32, seed=2)
    assert same(made.run(large), large)
    assert same(kept, first), "a later run must not write over what was handed out"
    assert sum(call[0] == "execute" for call in engine.calls) == 3


def test_an_input_in_pieces_is_read_whole_and_another_type_is_refused(runner):
    made = runner(Engine())
    inputs = NETWORK.sample({"batch": 3}, torch.float32)
    turned = {**inputs, "points": inputs["points"].T.contiguous().T}
    assert not turned["points"].is_contiguous()
    assert same(made.run(turned), inputs)
    with pytest.raises(ValueError, match=r"times is torch.int32, the engine takes torch.int64"):
        made.run({**inputs, "times": inputs["times"].int()})


def test_failures_are_told_in_the_librarys_words(runner, tmp_path):
    engine = Engine()
    made = runner(engine)
    engine.contexts[0].queued = False
    with pytest.raises(PrefmillError, match="was not queued"):
        made.run(NETWORK.sample({"batch": 1}, torch.float32))
    engine.full = True
    with pytest.raises(PrefmillError, match="cannot be started"):
        runner(engine)
    broken = library(engine)
    (tmp_path / PLAN_FILE).write_bytes(b"of another version")
    with pytest.raises(PrefmillError, match=r"cannot be loaded: the version does not match\."):
        TensorRtRunner(NETWORK, tmp_path, made.artifact, torch.device("cpu"), library=broken)


def test_a_library_that_records_cuda_graphs_itself_is_told_to(runner):
    strategies = {"CudaGraphStrategy": SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")}
    engine = Engine()
    made = runner(engine, cuda_graphs=True, parts=strategies)
    assert engine.contexts[0].config.cuda_graph_strategy == "whole"
    inputs = NETWORK.sample({"batch": 2}, torch.float32)
    assert same(made.run(inputs), inputs)
    runner(engine, parts=strategies)
    assert engine.contexts[1].config is None, "only where it is asked for"


def test_a_recorded_shape_is_replayed_at_addresses_that_stay():
    """Recorded here is the doubling of what lies in one input; the pool keeps four shapes."""
    captured = []

    def capture(inputs):
        outputs = {"twice": torch.zeros_like(inputs["points"])}
        times = []

        def enqueue():
            times.append(1)
            torch.mul(inputs["points"], 2, out=outputs["twice"])

        captured.append((tuple(inputs["points"].shape), times))
        return CapturedShape(dict(inputs), outputs, enqueue, record=lambda function: function)

    pool = GraphPool(capture)
    first = pool.run({"points": torch.ones(2)})
    assert pool.run({"points": torch.full((2,), 3.0)})["twice"].tolist() == [6.0, 6.0]
    assert first["twice"].tolist() == [2.0, 2.0]
    assert captured == [((2,), [1, 1, 1])], "once to settle the context, then once for each call"
    for size in (3, 4, 5, 6):
        pool.run({"points": torch.ones(size)})
    pool.run({"points": torch.ones(6)})
    assert len(captured) == 5
    pool.run({"points": torch.ones(2)})
    assert [shape for shape, _ in captured] == [(2,), (3,), (4,), (5,), (6,), (2,)]


def test_without_a_library_that_records_each_shape_has_a_context_of_its_own(runner, monkeypatch):
    """Torch's recording needs a GPU; what is checked is what it is given."""
    engine = Engine()
    recorded = []
    monkeypatch.setattr("prefmill.engine.backends.tensorrt_graphs._record", lambda run: recorded.append(run) or run)
    made = runner(engine, cuda_graphs=True)
    for rows, seed in ((2, 0), (3, 1), (2, 2)):
        inputs = NETWORK.sample({"batch": rows}, torch.float32, seed=seed)
        assert same(made.run(inputs), inputs)
    assert len(recorded) == 2
    assert [context.shapes.get("points") for context in engine.contexts] == [None, (2, 3), (3, 3)]
