"""Tokenizers of the trained checkpoints: those that were shipped, and one token for each word."""

import json

import numpy as np
import pytest
from prefmill.micro.checkpoints import SHIPPED
from prefmill.micro.teach.tokenizers import (
    CLIP_LENGTH,
    responder_tokenizer,
    text_reward_tokenizer,
    world_bert_tokenizer,
    world_clip_tokenizer,
)
from prefmill.micro.world.language import caption
from prefmill.micro.world.scenes import draw_scene

MADE = {
    "clip": world_clip_tokenizer,
    "text-to-image/tokenizer": world_clip_tokenizer,
    "image-reward": world_bert_tokenizer,
    "blip-matching": world_bert_tokenizer,
    "policy": responder_tokenizer,
    "text-reward": text_reward_tokenizer,
}


@pytest.fixture(scope="module")
def scenes():
    random = np.random.default_rng(5)
    return [draw_scene(random) for _ in range(3000)]


@pytest.mark.parametrize("folder", MADE)
def test_tokenizers_are_those_that_the_shipped_checkpoints_read(folder, tmp_path):
    MADE[folder]().save_pretrained(tmp_path)
    made, shipped = (json.loads((place / "tokenizer.json").read_text()) for place in (tmp_path, SHIPPED / folder))
    for state in (made, shipped):  # what the last call left
        del state["padding"], state["truncation"]
    assert made == shipped


def test_tokenizers_take_each_word_as_one_token(scenes):
    clip, bert = world_clip_tokenizer(), world_bert_tokenizer()
    texts = [caption(scene) for scene in scenes]
    for tokenizer in (clip, bert):
        tokens = tokenizer(texts)["input_ids"]
        assert all(len(row) == len(text.split()) + 2 for row, text in zip(tokens, texts, strict=True))
        assert tokenizer.unk_token_id not in tokenizer("zebra!")["input_ids"][1:-1]
    assert max(len(row) for row in clip(texts)["input_ids"]) == CLIP_LENGTH
