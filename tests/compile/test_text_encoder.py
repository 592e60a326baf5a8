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


def test_prompts_are_encoded_by_an_engine_whose_weights_were_let_go(tmp_path):
    eager = TextToImage.from_pretrained("random:text-to-image", EngineSettings(device="cpu"), t5_tokens=16)
    assert eager.text.t5 is not None
    build_engine(eager.text.t5.network, "onnxruntime", "float32", torch.device("cpu"), tmp_path)
    settings = EngineSettings(device="cpu", backend="onnxruntime", missing="eager", artifacts=str(tmp_path))
    engine = TextToImage.from_pretrained("random:text-to-image", settings, t5_tokens=16)
    assert engine.text.t5 is not None
    assert engine.text.t5.execution.backend == "onnxruntime"
    assert next(engine.text.t5.network.module.parameters()).is_meta
    torch.testing.assert_close(engine.encode("a cat").tokens, eager.encode("a cat").tokens, atol=1e-5, rtol=1e-5)
