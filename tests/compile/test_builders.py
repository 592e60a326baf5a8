"""What a builder says before minutes are spent."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.compile.build import build_engine
from prefmill.engine.artifact import Artifact, identity_of
from prefmill.engine.backends.catalogue import load_engine
from prefmill.engine.network import Dimension, Input, Network

CPU = torch.device("cpu")


@pytest.fixture
def untraced():
    """A network that fails the test when it is traced."""
    inputs = {"values": Input((Dimension("batch", 1, 4, 16), 8))}
    return Network("untraced", torch.nn.Linear(8, 8), _fail, inputs, ("sums",))


def _fail(module, values):
    raise AssertionError("it was traced")


def test_no_compiler(untraced, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(PrefmillError, match=r"there is no C\+\+ compiler") as caught:
        build_engine(untraced, "aoti", "float32", CPU, tmp_path)
    assert "install" in caught.value.fix


def test_precisions_that_there_are_not(untraced, tmp_path, monkeypatch):
    with pytest.raises(PrefmillError, match="aoti computes no float16 on a CPU"):
        build_engine(untraced, "aoti", "float16", CPU, tmp_path)
    with pytest.raises(PrefmillError, match="openvino does not compute in float16"):
        build_engine(untraced, "openvino", "float16", CPU, tmp_path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "cpu_name": "a CPU"})
    with pytest.raises(PrefmillError, match=r"openvino has no bfloat16 here: the CPU \(a CPU\)") as caught:
        build_engine(untraced, "openvino", "bfloat16", CPU, tmp_path)
    assert caught.value.fix == "--set engine.dtype=float32"


def test_a_bfloat16_engine_from_another_machine(untraced, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    artifact = Artifact(
        identity=identity_of(untraced, "openvino", "bfloat16"), targets=("x86_64-AVX512",),
        ranges={"batch": (1, 4, 16)}, files={}, build_seconds=0.0, peak_bytes=0, created="",
    )  # fmt: skip
    with pytest.raises(PrefmillError, match="neither avx512_bf16 nor amx_bf16"):
        load_engine(untraced, tmp_path, artifact, CPU)
