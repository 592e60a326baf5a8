import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.backends.catalogue import make_runner
from prefmill.engine.device import Execution
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.runner import EagerRunner
from prefmill.engine.settings import EngineSettings

SETTINGS = EngineSettings(device="cpu", backend="torch_compile")


def forward(module, values):
    compiled = torch.full_like(values, float(torch.compiler.is_compiling()))
    return torch.nn.functional.gelu(module(values)).softmax(-1), compiled


def network() -> Network:
    torch.manual_seed(0)
    inputs = {"values": Input((Dimension("batch", 1, 4, 16), 8))}
    return Network("compiled", torch.nn.Linear(8, 8).eval(), forward, inputs, ("shares", "compiled"))


def test_every_batch_size_has_the_eager_values_and_runs_compiled():
    declared = network()
    runner, eager = make_runner(declared, SETTINGS), EagerRunner(declared)
    assert runner.execution == Execution("torch_compile", "float32", "cpu")
    assert runner.fallback == ""
    for rows in (1, 2, 7, 33):
        inputs = declared.sample({"batch": rows}, torch.float32, seed=rows)
        with torch.inference_mode():
            found, wanted = runner.run(inputs), eager.run(inputs)
        torch.testing.assert_close(found["shares"], wanted["shares"], rtol=1e-5, atol=1e-6)
        assert found["compiled"].all()
        assert not wanted["compiled"].any()
    with pytest.raises(ValueError, match="missing"):
        runner.run({})


def test_no_compiler_is_named_before_anything_is_traced(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(PrefmillError, match=r"there is no C\+\+ compiler") as caught:
        make_runner(network(), SETTINGS)
    assert "install" in caught.value.fix
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(PrefmillError, match=r"no-such-compiler of \$CXX is not in PATH"):
        make_runner(network(), SETTINGS)
    (tmp_path / "no-such-compiler").write_text("#!/bin/sh\n")
    (tmp_path / "no-such-compiler").chmod(0o755)
    make_runner(network(), SETTINGS)
