"""The estimate of memory: counted by hand for a chain of layers, and what follows from it."""

# pyright: reportPrivateImportUsage=false
import json
from itertools import accumulate

import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from prefmill.compile.memory import PeakMemory
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.sd3 import memory
from prefmill.engine.sd3.decode import decoder_network
from prefmill.engine.sd3.memory import MemoryEstimate, estimate_memory, free_bytes, peak_bytes
from prefmill.engine.sd3.step import step_network
from torch.profiler import ProfilerActivity, profile

TRANSFORMER = {
    "sample_size": 16, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 2,
    "attention_head_dim": 32, "num_attention_heads": 4, "joint_attention_dim": 64,
    "caption_projection_dim": 128, "pooled_projection_dim": 64, "pos_embed_max_size": 16, "qk_norm": "rms_norm",
}  # fmt: skip
AUTOENCODER = {
    "block_out_channels": (16, 32), "down_block_types": ("DownEncoderBlock2D",) * 2, "latent_channels": 16,
    "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 16, "layers_per_block": 1,
}  # fmt: skip


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


def test_what_is_counted_is_what_the_allocator_held(tmp_path):
    """Torch's own record of a run on a CPU is the independent source."""
    transformer = SD3Transformer2DModel(**TRANSFORMER).eval()
    autoencoder = AutoencoderKL(**AUTOENCODER).eval()
    with torch.device("meta"):
        bare = SD3Transformer2DModel(**TRANSFORMER).eval(), AutoencoderKL(**AUTOENCODER).eval()
    pairs = (
        (step_network(transformer, 16, guided=True), step_network(bare[0], 16, guided=True)),
        (decoder_network(autoencoder, transformer.config), decoder_network(bare[1], bare[0].config)),
    )
    for real, shapes in pairs:
        sizes = {"batch": 3, "height": 16, "width": 16}
        counted = peak_bytes(shapes, sizes, torch.float32)
        inputs, before = real.sample(sizes, torch.float32), PeakMemory()
        given = sum(value.nbytes for value in inputs.values())
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            real.forward(real.module, **inputs)
        grown = before.taken
        record.export_chrome_trace(str(tmp_path / "trace.json"))
        events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        live = list(accumulate(event["args"]["Bytes"] for event in events if event["name"] == "[memory]"))
        assert counted == pytest.approx(given + max(live), rel=0.05)
        alone = MemoryEstimate(0, (counted, 0), (0, 0))
        assert grown is None or grown <= alone.peak(1)


def test_what_fits(monkeypatch):
    monkeypatch.setattr(memory, "BESIDE", (1.5, 100))
    estimate = MemoryEstimate(weights=1000, step=(100, 50), decoding=(200, 200))
    assert [estimate.peak(images) for images in (1, 2, 4)] == [1400, 1700, 2300]
    assert [estimate.peak(images, 2) for images in (1, 2, 4, 9)] == [1400, 1700, 1700, 1850]
    assert estimate.images(2600, None, 64) == 3  # 0.8 of it are counted on: 2080
    assert estimate.images(2600, 1, 64) == 12
    assert estimate.images(2600, 1, 8) == 8
    assert estimate.images(1000, None, 8) == 0


def test_images_that_wait_for_others_and_weights_that_visit(monkeypatch):
    monkeypatch.setattr(memory, "BESIDE", (1, 0))
    waiting = MemoryEstimate(weights=0, step=(0, 0), decoding=(500, 500), picture=10)
    assert [waiting.peak(images, 1) for images in (1, 20, 40)] == [510, 700, 1200]
    visited = MemoryEstimate(weights=1000, step=(100, 50), decoding=(0, 0), visitor=300)
    assert [visited.peak(images) for images in (1, 5, 6)] == [1300, 1300, 1350]


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
    assert whole.visitor == 0 < half.visitor
    assert half.visitor + half.weights == pytest.approx(whole.weights / 2, rel=0.01)
    assert half.decoding[1] == pytest.approx(whole.decoding[1] / 2, rel=0.01)
    wide = estimate_memory(bare, torch.float32, t5_tokens=256, width=128, height=64)
    assert wide.decoding[1] == 2 * whole.decoding[1]
    assert wide.picture == 3 * 128 * 64 * 4
    assert free_bytes(torch.device("cpu")) > 1e6
