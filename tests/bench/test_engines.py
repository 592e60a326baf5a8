"""The engine benchmark on a toy network: its rows, its claims, and what is left out."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.bench import engines
from prefmill.bench.engines_side import measure
from prefmill.engine.network import Dimension, Input, Network


def toy(settings):
    torch.manual_seed(0)
    inputs = {"states": Input((Dimension("batch", 1, 2, 4), 8))}
    return Network("toy", torch.nn.Linear(8, 8).eval(), lambda module, states: module(states), inputs, ("outputs",))


def test_rows_of_a_toy_network(tmp_path):
    setting = {
        "device": "cpu", "threads": 1, "specs": ["toy"], "backends": ["onnxruntime", "tensorrt"], "rounds": 2,
        "precisions": ["float32"], "batches": [1, 4, 8], "engines": str(tmp_path),
    }  # fmt: skip
    answer = measure(setting, {"toy": toy})
    assert [(row["side"], row["batch"]) for row in answer["rows"]] == [
        ("eager", 1), ("onnxruntime", 1), ("eager", 4), ("onnxruntime", 4),
    ]  # fmt: skip
    assert list(answer["left_out"]) == ["toy tensorrt"]
    assert all(row["parity"] < 1e-5 and len(row["timings"]) == 2 for row in answer["rows"])
    assert answer["rows"][1]["bytes"] > 8 * 9 * 4


def row(side, seconds, threads=1, parity=0.0):
    timings = [{"cpu": value, "wall": 2 * value} for value in seconds]
    return {
        "spec": "sd3_55m", "side": side, "batch": 8, "threads": threads, "precision": "float32", "parity": parity,
        "build_seconds": 1.0, "bytes": 1, "memory_growth": 1, "timings": timings,
    }  # fmt: skip


def test_the_quickest_side_is_claimed():
    rows = [row("eager", [4.0, 6.0, 9.0]), row("slow", [4.0, 6.0, 9.0]), row("quick", [2.0, 3.0, 1.0], parity=1e-6)]
    claims = engines.claims_of(rows, "float32", "cpu")
    assert (claims["sd3_vs_eager"], claims["sd3_vs_eager_backend"]) == (2.0, "quick")
    assert claims["parity_max_relative_error"] == 1e-6


def test_unknown_names_are_said():
    with pytest.raises(PrefmillError, match="no network 'sd4'"):
        engines.run(specs=["sd4"])
