"""T5, whose attention the way to ONNX has to be spared: see engine/sd3/text.py."""

import pytest
import torch
from prefmill.compile.build import build_engine
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.settings import EngineSettings

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


def test_t5_has_an_engine_and_keeps_its_own_attention(tmp_path):
    engine = TextToImage.from_pretrained("random:text-to-image", EngineSettings(device="cpu"), t5_tokens=16)
    assert engine.text.t5 is not None
    network = engine.text.t5.network
    tokens = network.sample({"batch": 2}, torch.float32)
    with torch.no_grad():
        before = engine.text.t5.run(tokens)["states"]
    ranges = {"batch": (1, 1, 3)}
    _, artifact = build_engine(network, "onnxruntime", "float32", torch.device("cpu"), tmp_path, ranges=ranges)
    assert artifact.state == "verified"
    with torch.no_grad():
        assert torch.equal(engine.text.t5.run(tokens)["states"], before)
