"""TensorRT's builder where it fails, by a library that stands in for the real one."""

from types import SimpleNamespace

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.compile.build import build_engine
from prefmill.compile.builders.builder import BuildRequest
from prefmill.compile.builders.tensorrt import profile_shapes, tensorrt_builder
from prefmill.compile.export import export_program
from prefmill.engine.artifact import ranges_of
from prefmill.engine.backends.tensorrt_library import PLAN_FILE
from prefmill.engine.network import Dimension, Input, Network

CPU = torch.device("cpu")
NETWORK = Network(
    "toy",
    torch.nn.Linear(3, 2),
    lambda module, x: module(x),
    {"x": Input((Dimension("batch", 1, 2, 4), 3))},
    ("y",),
)


def library(*, errors=(), plan: bytes | None = b"plan", said=""):
    """What the builder calls; `said` is what the logger is told while the plan is built."""
    shapes = []

    class Logger:
        Severity = SimpleNamespace(ERROR=1)

    def parse(path):
        with open(path, "rb") as file:  # noqa: PTH123
            assert b"Gemm" in file.read()
        return not errors

    class Builder:
        def __init__(self, log):
            self.log = log

        def create_network(self, flags):
            assert flags == 1 << 1, "strongly typed"
            entry = SimpleNamespace(name="x", shape=(-1, 3))
            return SimpleNamespace(num_inputs=1, num_layers=2, get_input=lambda number: entry)

        def create_builder_config(self):
            return SimpleNamespace(add_optimization_profile=lambda profile: None)

        def create_optimization_profile(self):
            return SimpleNamespace(set_shape=lambda *shape: shapes.append(shape))

        def build_serialized_network(self, graph, config):
            if said:
                self.log.log(1, said)
            return plan

    parser = SimpleNamespace(parse_from_file=parse, num_errors=len(errors), get_error=lambda number: errors[number])
    flag = SimpleNamespace(STRONGLY_TYPED=1)
    return SimpleNamespace(
        ILogger=Logger, Builder=Builder, OnnxParser=lambda graph, log: parser, NetworkDefinitionCreationFlag=flag,
        shapes=shapes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def program():
    return export_program(NETWORK, ranges_of(NETWORK))


@pytest.fixture
def request_of(program, tmp_path):
    return BuildRequest(NETWORK, program, ranges_of(NETWORK), "float32", CPU, ("sm_80",), tmp_path)


def test_the_plan_is_written_for_the_declared_ranges(request_of, tmp_path):
    fake = library()
    notes = tensorrt_builder("tensorrt", cross=False, library=fake).write(request_of)
    assert fake.shapes == [("x", (1, 3), (2, 3), (4, 3))]
    assert profile_shapes(NETWORK, "x", {"batch": (2, 3, 5)}) == ((2, 3), (3, 3), (5, 3))
    assert (tmp_path / PLAN_FILE).read_bytes() == b"plan"
    assert [path.name for path in tmp_path.iterdir()] == [PLAN_FILE], "the graph is not kept"
    assert notes == {"layers": 2, "inputs": ["x"]}


def test_an_operation_that_the_parser_does_not_take_is_named(request_of):
    error = SimpleNamespace(
        node_operator=lambda: "NonZero", node_name=lambda: "node_7", desc=lambda: "no such importer"
    )
    builder = tensorrt_builder("tensorrt", cross=False, library=library(errors=[error]))
    with pytest.raises(PrefmillError, match=r"does not take the graph of toy: NonZero \(node_7\): no such importer"):
        builder.write(request_of)


@pytest.mark.parametrize(
    ("said", "message", "fix"),
    [
        ("[memory.cpp] OutOfMemory: requested 3 GiB", "ran out of memory while building toy for sm_80", "--range"),
        ("no kernel for\nSM80", "does not build toy in float32 for sm_80: no kernel for SM80", "bfloat16"),
        ("", "no reason was given", "bfloat16"),
    ],
)
def test_a_build_that_fails_says_why(request_of, said, message, fix):
    builder = tensorrt_builder("tensorrt", cross=False, library=library(plan=None, said=said))
    with pytest.raises(PrefmillError, match=message) as found:
        builder.write(request_of)
    assert fix in found.value.fix


def test_weights_of_another_type_than_the_precision_are_a_mistake_of_ours(program, tmp_path):
    request = BuildRequest(NETWORK, program, ranges_of(NETWORK), "bfloat16", CPU, ("sm_80",), tmp_path)
    with pytest.raises(ValueError, match="weights in float32, not in bfloat16"):
        tensorrt_builder("tensorrt", cross=False, library=library()).write(request)


def test_a_backend_that_builds_for_what_is_here_refuses_other_devices(tmp_path):
    with pytest.raises(PrefmillError, match="builds for the device that is here, not for sm_80"):
        build_engine(NETWORK, "tensorrt", "float32", CPU, tmp_path, targets=("sm_80",))
