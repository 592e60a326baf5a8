"""Weights that several networks share: hashed once at a load, and given back where engines run all of them."""

import sys

import torch
from prefmill.compile.build import build_engine
from prefmill.engine.backends.catalogue import make_runner, make_runners
from prefmill.engine.backends.engine_runner import EngineRunner
from prefmill.engine.settings import EngineSettings

from .conftest import toy


def build(root, network):
    return build_engine(network, "onnxruntime", "float32", torch.device("cpu"), root)


def settings(root, **changes):
    return EngineSettings(device="cpu", backend="onnxruntime", artifacts=str(root), **changes)


def test_weights_that_networks_share_are_hashed_once_and_released_when_engines_run_them(
    workshop, tmp_path, monkeypatch
):
    one = toy()
    two = type(one)("other", one.module, one.forward, one.inputs, one.outputs)
    for network in (one, two):
        build(tmp_path, network)
    hashed = []
    digest = sys.modules["prefmill.engine.artifact"].weights_digest
    monkeypatch.setattr(
        "prefmill.engine.artifact.weights_digest", lambda module: hashed.append(module) or digest(module)
    )
    runners = make_runners((one, two), settings(tmp_path), release=(one.module,))
    assert hashed == [one.module]
    assert next(one.module.parameters()).device.type == "meta"
    inputs = toy().sample({"rows": 2, "wide": 2}, torch.float32)
    assert torch.equal(runners[1].run(inputs)["sums"], make_runner(toy()).run(inputs)["sums"])


def test_weights_stay_where_one_of_their_networks_runs_eagerly(workshop, tmp_path):
    one = toy()
    build(tmp_path, one)
    two = type(one)("other", one.module, one.forward, one.inputs, one.outputs)
    first, second = make_runners((one, two), settings(tmp_path, missing="eager"), release=(one.module,))
    assert isinstance(first, EngineRunner)
    assert "no onnxruntime engine of other" in second.fallback
    assert next(one.module.parameters()).device.type == "cpu"
