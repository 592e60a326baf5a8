import time
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline  # pyright: ignore[reportPrivateImportUsage]
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import EngineSettings
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.text import bounded_text


@pytest.fixture(scope="module")
def engine(engine_checkpoints):
    return TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), EngineSettings(device="cpu"))


@pytest.mark.parametrize("prompt", ["a red cat on a table", "", "dog " * 400], ids=["short", "empty", "cut"])
def test_equals_the_stock_pipelines_encoding(engine, engine_checkpoints, prompt):
    stock: Any = StableDiffusion3Pipeline.from_pretrained(engine_checkpoints["text-to-image"])
    with torch.no_grad():
        tokens, _, pooled, _ = stock.encode_prompt(prompt, None, None, do_classifier_free_guidance=False)
    ours = engine.encode(prompt)
    assert torch.equal(ours.tokens, tokens)
    assert torch.equal(ours.pooled, pooled)


WALLS = {
    "words": "a red cat near the green sea " * 40_000,
    "one word": "x" * 1_000_000,
    "space, then words": " " * 1_000_000 + "a red cat " * 300,
    "no known character": "漢字" * 150_000,
}


@pytest.mark.parametrize("text", WALLS.values(), ids=WALLS)
def test_a_megabyte_of_prompt_gives_what_its_beginning_gives(engine, text):
    start = time.monotonic()
    embedding = engine.encode(text)
    assert time.monotonic() - start < 30
    for tokenizer, length in ((engine.text.clip_tokenizers[0], 77), (engine.text.t5_tokenizer, 256)):
        cut = {"truncation": True, "max_length": length}
        bounded = bounded_text(text, tokenizer, length)
        assert tokenizer(bounded, **cut)["input_ids"] == tokenizer(text, **cut)["input_ids"]
    assert embedding.tokens.isfinite().all()


def test_short_texts_are_left_alone(engine):
    text = "a red cat, " * 500
    assert bounded_text(text, engine.text.clip_tokenizers[0], 256) == text


def test_the_last_embeddings_are_kept_and_t5_visits_once_for_all_new_prompts(engine, monkeypatch):
    from prefmill.engine.sd3 import text

    visits = []
    real = text.visiting
    monkeypatch.setattr(text, "visiting", lambda module, device: visits.append(device.type) or real(module, device))
    monkeypatch.setattr(text, "KEPT", 2)
    first = engine.text.encode(["one kite", "two kites", "one kite", "three kites"])
    assert visits == ["cpu"]
    assert first[0] is first[2]
    again = engine.text.encode(["three kites", "one kite", "one kite"])
    assert again[0] is first[3], "the last two are kept"
    assert len(visits) == 1 + (again[1] is not first[0])
    assert torch.equal(again[1].tokens, first[0].tokens)


def test_t5_at_rest_on_the_host_gives_the_same_bits_and_needs_the_eager_backend(engine, engine_checkpoints):
    folder = str(engine_checkpoints["text-to-image"])
    resting = TextToImage.from_pretrained(folder, EngineSettings(device="cpu"), t5="host")
    assert torch.equal(resting.encode("a red cat").tokens, engine.encode("a red cat").tokens)
    with pytest.raises(PrefmillError, match="t5=host moves weights"):
        TextToImage.from_pretrained(folder, EngineSettings(device="cpu", backend="torch_compile"), t5="host")
