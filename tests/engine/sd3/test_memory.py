"""The estimate of memory: counted by hand for a chain of layers, and what follows from it."""

import pytest
import torch
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.sd3.memory import MemoryEstimate, estimate_memory, free_bytes, peak_bytes


def chain(module, x):
    for layer in module:
        x = layer(x)
    return x


def test_the_peak_of_a_chain_is_its_widest_pair_of_tensors():
    with torch.device("meta"):
        layers = torch.nn.Sequential(torch.nn.Linear(10, 100), torch.nn.Linear(100, 50), torch.nn.Linear(50, 1))
    network = Network("chain", layers, chain, {"x": Input((Dimension("batch", 1, 2, 64), 10))}, ("y",))
    for batch in (1, 8):  # the caller holds the input: 10 + 100 + 50 numbers of 4 bytes live at once
        assert peak_bytes(network, {"batch": batch}, torch.float32) == batch * 160 * 4


def test_what_fits():
    estimate = MemoryEstimate(weights=1000, step=(100, 50), decoding=(200, 200))
    assert [estimate.peak(images) for images in (1, 2, 4)] == [1200, 1400, 1800]
    assert [estimate.peak(images, 2) for images in (1, 2, 4, 9)] == [1200, 1400, 1400, 1500]
    assert estimate.images(2700, None, 64) == 3  # 0.6 of it are counted on: 1620
    assert estimate.images(2700, 1, 64) == 11
    assert estimate.images(2700, 1, 8) == 8
    assert estimate.images(1000, None, 8) == 0


def test_an_estimate_reads_configs_alone(engine_checkpoints, tmp_path):
    source, bare = engine_checkpoints["text-to-image"], tmp_path / "bare"
    for file in source.rglob("*.json"):
        copy = bare / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    options = {"t5_tokens": 256, "width": None, "height": None}
    whole = estimate_memory(bare, torch.float32, **options)
    weights = sum(file.stat().st_size for file in source.rglob("*.safetensors"))
    assert whole.weights == pytest.approx(weights, rel=0.02)
    half = estimate_memory(bare, torch.bfloat16, **options, t5_stays=False)
    assert half.weights < whole.weights / 2
    assert half.decoding[1] == pytest.approx(whole.decoding[1] / 2, rel=0.01)
    wide = estimate_memory(bare, torch.float32, t5_tokens=256, width=128, height=64)
    assert wide.decoding[1] == 2 * whole.decoding[1]
    assert free_bytes(torch.device("cpu")) > 1e6
