"""What the training benchmark trains: a random LLaVA of any width, and pairs with answers of realistic lengths."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from ..engine.images import encode_image
from ..engine.tiny.tokenizers import VICUNA_TEMPLATE, byte_tokenizer, token_id
from ..engine.tiny.weights import randomize
from ..pipeline.records import Candidate, Pair, content_id
from ..pipeline.shards import Footer, write_shard
from ..pipeline.store import Run
from ..train.collate import PairCollator
from ..train.data import RunImages, load_pairs
from ..train.flops import LADDER, PairLengths, training_flops
from ..train.preference.layout import split
from ..train.shape import shape_of_folder

_PATCH = 14
_WORDS = [
    "a",
    "the",
    "of",
    "red",
    "blue",
    "house",
    "dog",
    "near",
    "two",
    "on",
    "table",
    "and",
    "with",
    "sky",
    "small",
    "tree",
    "under",
    "old",
    "boat",
    "man",
    "street",
]


@dataclass(frozen=True)
class Shape:
    """Sizes of a benchmark. The image is square, in patches of 14 pixels; texts are in tokens."""

    hidden: int = 1024
    layers: int = 2
    vocabulary: int = 2000
    image: int = 336
    instruction: int = 60
    answer: int = 150
    pairs: int = 8
    vision_hidden: int = 96
    vision_layers: int = 6
    vision_heads: int = 3


TINY = Shape(hidden=64, layers=2, vocabulary=1000, image=56, instruction=12, answer=12, pairs=4)
SEVEN_BILLION = Shape(
    hidden=4096, layers=32, vocabulary=32_064, pairs=32, vision_hidden=1024, vision_layers=24, vision_heads=16
)
"""LLaVA 1.5 7B."""


def write_model(folder: Path, shape: Shape) -> Path:
    """Write a LLaVA 1.5 of these sizes, with Llama's proportions in the language model."""
    tokenizer = _tokenizer()
    width = 128 if shape.hidden >= 4096 else 64  # of an attention head
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_hidden, intermediate_size=4 * shape.vision_hidden, projection_dim=shape.vision_hidden,
        num_hidden_layers=shape.vision_layers, num_attention_heads=shape.vision_heads,
        image_size=shape.image, patch_size=_PATCH,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=shape.hidden, intermediate_size=int(shape.hidden * 2.6875), num_hidden_layers=shape.layers,
        num_attention_heads=max(1, shape.hidden // width), num_key_value_heads=max(1, shape.hidden // width),
        vocab_size=max(shape.vocabulary, len(tokenizer)), max_position_embeddings=4096,
        bos_token_id=token_id(tokenizer, "<s>"), eos_token_id=token_id(tokenizer, "</s>"),
        pad_token_id=token_id(tokenizer, "<pad>"),
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=token_id(tokenizer, "<image>"))
    model = LlavaForConditionalGeneration(config)
    randomize(model, 0, {"lm_head.weight": 3.0})
    model.bfloat16().save_pretrained(folder)  # half the disk, and what checkpoints of this size come in
    pixels = CLIPImageProcessorPil(
        size={"shortest_edge": shape.image}, crop_size={"height": shape.image, "width": shape.image}
    )
    LlavaProcessor(
        image_processor=pixels, tokenizer=tokenizer, patch_size=_PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=VICUNA_TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def write_pairs(folder: Path, shape: Shape) -> Path:
    """Write a run of pairs about noise; a pair's answers are of like length, and pairs differ by a factor of two."""
    tokenizer, draw = _tokenizer(), random.Random(0)
    candidates, pairs = [], []
    for number in range(shape.pairs):
        pixels = np.random.default_rng(number).integers(0, 256, (shape.image, shape.image, 3), dtype=np.uint8)
        image_id = content_id("candidate", number)
        candidates.append(
            Candidate(image_id, f"prompt-{number}", shape.image, shape.image, encode_image(pixels), model="noise@0")
        )
        middle = shape.answer * min(2.5, draw.lognormvariate(0, 0.4))
        lengths = [shape.instruction, *(int(middle * draw.lognormvariate(0, 0.2)) for _ in range(2))]
        instruction, chosen, rejected = (_text(tokenizer, draw, max(2, length)) for length in lengths)
        pairs.append(Pair(content_id("pair", number), image_id, instruction, chosen, rejected))
    with Run.writing(folder) as run:
        for name, kind, records in (("candidates", Candidate, candidates), ("pairs", Pair, pairs)):
            (run.folder / name).mkdir()
            write_shard(run.folder / name, 0, len(records), kind, records, Footer(work="bench"))
            run.write_manifest(name, {"stage": name, "fingerprint": name, "models": []})
    return folder


def predicted_gains(folder: Path, shape: Shape, rank: int, batch_size: int, epochs: int) -> dict[str, float]:
    """Return how many times as many floating-point operations TRL needs as each rung, on what is in `folder`."""
    collator, images = PairCollator(LlavaProcessor.from_pretrained(folder / "model")), RunImages(folder / "run")
    sizes, patches = images.sizes(), (shape.image // _PATCH) ** 2
    lengths = [
        PairLengths(*split(collator, pair, sizes[pair.image_id], None).spans, image_id=pair.image_id, patches=patches)
        for pair in load_pairs(folder / "run")
    ]
    model = shape_of_folder(folder / "model")
    totals = {
        name: training_flops(model, lengths, rung, rank=rank, batch_size=batch_size, epochs=epochs).total
        for name, rung in LADDER.items()
    }
    return {name: round(totals["trl"] / total, 3) for name, total in totals.items()}


def _text(tokenizer: PreTrainedTokenizerFast, draw: random.Random, tokens: int) -> str:
    text = draw.choice(_WORDS)
    while len(tokenizer(text, add_special_tokens=False).input_ids) < tokens:
        text += f" {draw.choice(_WORDS)}"
    return text


def _tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer(["<unk>", "<s>", "</s>", "<pad>", "<image>"], bos="<s>", eos="</s>", pad="<pad>")
