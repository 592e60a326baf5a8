"""Where an export stopped: the operation and the module that it stands in."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.compile.export import export_program, write_onnx
from prefmill.engine.artifact import ranges_of
from prefmill.engine.network import Dimension, Input, Network
from torch import nn


class Branching(nn.Module):
    def forward(self, values):
        return values if values.sum() > 0 else -values


class Bessel(nn.Module):
    def forward(self, values):
        return torch.special.bessel_j0(values)


class Outside(nn.Module):
    def forward(self, values):
        return values + torch.from_numpy(values.numpy())


class ThroughAFunction(nn.Module):
    def forward(self, values):
        return _helper(values)


def _helper(values):
    return values * int(values.sum())


def network(inner):
    module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), inner)).eval()
    inputs = {"values": Input((Dimension("batch", 1, 4, 16), 4))}
    return Network("toy", module, lambda module, values: module(values), inputs, ("out",))


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (Branching(), r"__bool__ in 1\.1 \(Branching\.forward, line \d+\): .*data-dependent"),
        (Outside(), r"numpy in 1\.1 \(Outside\.forward, line \d+\)"),
        (ThroughAFunction(), r"__int__ in 1\.1 \(ThroughAFunction\.forward, line \d+\)"),
    ],
)
def test_what_cannot_be_traced(inner, said):
    declared = network(inner)
    with pytest.raises(PrefmillError, match=rf"toy cannot be exported: {said}"):
        export_program(declared, ranges_of(declared))


def test_what_onnx_has_not(tmp_path):
    declared = network(Bessel())
    program = export_program(declared, ranges_of(declared))
    with pytest.raises(PrefmillError, match=r"toy has no ONNX form: .*bessel_j0.* stands in 1\.1 \(Bessel\)") as caught:
        write_onnx(declared, program, tmp_path / "model.onnx")
    assert "engine.backend=aoti" in caught.value.fix
    assert not (tmp_path / "model.onnx").exists()
