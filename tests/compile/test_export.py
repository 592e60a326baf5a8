import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from prefmill.base.errors import PrefmillError
from prefmill.compile.export import export_program, write_onnx
from prefmill.engine.network import Dimension, Input, Network, between

ROWS = Dimension("rows", 1, 4, 9)
SIDE = Dimension("side", 2, 4, 8, 2)


def _forward(module, pixels, scale, shared):
    return module(pixels).mean((1, 2)) * scale[:, None], pixels + shared


def network(forward=_forward) -> Network:
    torch.manual_seed(0)
    inputs = {
        "pixels": Input((ROWS, SIDE, 3)),
        "scale": Input((ROWS,), torch.float32, between(1, 2)),
        "shared": Input((1, 1, 3)),
    }
    return Network("toy", torch.nn.Linear(3, 2), forward, inputs, ("sums", "pixels_out"))


RANGES = {"rows": (1, 4, 9), "side": (2, 4, 8)}


def test_a_program_takes_every_size_of_its_ranges_and_gives_the_same_bits():
    declared = network()
    program = export_program(declared, RANGES).module()
    for rows, side in ((1, 2), (2, 4), (9, 8)):
        inputs = declared.sample({"rows": rows, "side": side}, torch.float32)
        found, wanted = program(*inputs.values()), _forward(declared.module, **inputs)
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_onnx_has_the_declared_names_and_only_the_varying_axes_are_free(tmp_path):
    declared = network()
    write_onnx(declared, export_program(declared, RANGES), tmp_path / "toy.onnx")
    graph = onnx.load(tmp_path / "toy.onnx").graph
    assert [entry.name for entry in graph.input] == list(declared.inputs)
    assert [entry.name for entry in graph.output] == list(declared.outputs)
    free = {entry.name: [bool(axis.dim_param) for axis in entry.type.tensor_type.shape.dim] for entry in graph.input}
    assert free == {"pixels": [True, True, False], "scale": [True], "shared": [False, False, False]}


def test_a_range_of_one_size_is_a_constant_of_the_graph(tmp_path):
    declared = network()
    write_onnx(declared, export_program(declared, {**RANGES, "side": (4, 4, 4)}), tmp_path / "toy.onnx")
    (pixels, *_) = onnx.load(tmp_path / "toy.onnx").graph.input
    assert [axis.dim_value for axis in pixels.type.tensor_type.shape.dim] == [0, 4, 3]


def test_what_depends_on_values_cannot_be_exported():
    def branching(module, pixels, scale, shared):
        return (pixels, pixels) if scale.sum() > 3 else (shared, shared)

    with pytest.raises(PrefmillError, match="toy cannot be exported") as error:
        export_program(network(branching), RANGES)
    assert "engine.backend=eager" in str(error.value)


class _Norm(torch.nn.Module):
    """A root-mean-square norm as the libraries' models write it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0]))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * torch.rsqrt(values.float().pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def test_a_norm_is_one_operation_where_that_is_asked_for_and_its_weight_keeps_its_name(tmp_path):
    inputs = {"values": Input((ROWS, 5, 4))}
    declared = Network("norm", _Norm(), lambda module, values: module(values), inputs, ("normed",))
    program = export_program(declared, {"rows": (1, 4, 9)})
    operations = {}
    for name, options in {"plain": {}, "fused": {"fuse": True, "opset": 23}}.items():
        path = tmp_path / f"{name}.onnx"
        write_onnx(declared, program, path, **options)
        model = onnx.load(path)
        operations[name] = [node.op_type for node in model.graph.node if node.op_type != "Constant"]
        assert "module.weight" in [entry.name for entry in model.graph.initializer]
        for rows in (1, 9):
            sample = declared.sample({"rows": rows}, torch.float32)
            (found,) = ReferenceEvaluator(model).run(None, {"values": sample["values"].numpy()})
            torch.testing.assert_close(torch.from_numpy(found), declared.module(sample["values"]).detach())
    assert operations["fused"] == ["RMSNormalization"]
    assert len(operations["plain"]) > 6
