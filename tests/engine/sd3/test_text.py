import time
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline  # pyright: ignore[reportPrivateImportUsage]
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
