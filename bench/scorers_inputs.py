"""What the scorer benchmark works on, made from seeds: weights of the official size and names, images, dialogues.

Speed does not depend on the weights, and equal scores on random weights are the stricter test: nothing saturates.
"""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import LlamaConfig

REGIMES = {"armorm": (25, 130), "armorm_long_prompt": (350, 100)}
"""Words of a prompt and of an answer: as in PDS-DPO's published sample, and with a long context in front."""
_WORDS = ("red", "cat", "table", "sea", "two", "dogs", "hill", "oil", "bright", "sky", "tree", "house", "near", "old")
_MED_CONFIG = {
    "vocab_size": 30524, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
    "pad_token_id": 0, "model_type": "bert", "encoder_width": 768, "add_cross_attention": True,
}  # fmt: skip


def write_image_reward(folder: Path, images: int) -> None:
    """Write weights in the official form, a vocabulary, `images` decoded 1024 x 1024 images and a prompt for each."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: _values(name, shape) for name, shape in _official_shapes().items()}
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(state, folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(_MED_CONFIG))
    vocabulary = "\n".join(_vocabulary()) + "\n"
    for place in (folder, folder / "bert-base-uncased"):
        place.mkdir(exist_ok=True)
        (place / "vocab.txt").write_text(vocabulary)
    np.save(folder / "images.npy", np.stack([_image(number) for number in range(images)]))
    stream = random.Random(0)
    prompts = [" ".join(stream.choices(_WORDS, k=stream.randint(8, 40))) for _ in range(images)]
    (folder / "prompts.json").write_text(json.dumps(prompts))


def armorm_config(**sizes: Any) -> LlamaConfig:
    """The official ArmoRM's sizes, or others."""
    return LlamaConfig(
        **{
            "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            "num_objectives": 19, "gating_temperature": 10, "gating_hidden_dim": 1024, "gating_n_hidden": 3, **sizes,
        }
    )  # fmt: skip


def dialogues(prompts: int, prompt_words: int, answer_words: int) -> tuple[list[str], list[str]]:
    """Prompts, each four times, and answers, of about so many words each."""
    stream = random.Random(1)

    def text(words: int) -> str:
        return " ".join(stream.choices(_WORDS[:8], k=stream.randint(words * 2 // 3, words * 4 // 3)))

    asked = [prompt for prompt in (text(prompt_words) for _ in range(prompts)) for _ in range(4)]
    return asked, [text(answer_words) for _ in asked]


def _image(seed: int) -> np.ndarray:
    """A smooth picture with some grain, uint8 [3, 1024, 1024]."""
    stream = np.random.default_rng(seed)
    coarse = Image.fromarray(stream.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((1024, 1024), Image.Resampling.BICUBIC)).astype(np.int16)
    return (smooth + stream.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8).transpose(2, 0, 1)


def _vocabulary() -> list[str]:
    """BERT's size and special places; the words above are words of it."""
    head = ["[PAD]", *(f"[unused{number}]" for number in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS]
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    head += [*characters, *(f"##{character}" for character in characters)]
    return [*head, *(f"[filler{number}]" for number in range(30522 - len(head)))]


def _values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) > 1:
        return noise / (noise.numel() / shape[0]) ** 0.5
    return 0.1 * noise + (1 if name.endswith("weight") else 0)


def _official_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        shapes.update({f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)})

    def norm(name: str, width: int) -> None:
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    image, text = "blip.visual_encoder", "blip.text_encoder"
    shapes |= {f"{image}.cls_token": (1, 1, 1024), f"{image}.pos_embed": (1, 197, 1024)}
    shapes |= {f"{image}.patch_embed.proj.weight": (1024, 3, 16, 16), f"{image}.patch_embed.proj.bias": (1024,)}
    norm(f"{image}.norm", 1024)
    for number in range(24):
        block = f"{image}.blocks.{number}"
        norm(f"{block}.norm1", 1024)
        norm(f"{block}.norm2", 1024)
        linear(f"{block}.attn.qkv", 3072, 1024)
        linear(f"{block}.attn.proj", 1024, 1024)
        linear(f"{block}.mlp.fc1", 4096, 1024)
        linear(f"{block}.mlp.fc2", 1024, 4096)
    shapes[f"{text}.embeddings.word_embeddings.weight"] = (30524, 768)
    shapes[f"{text}.embeddings.position_embeddings.weight"] = (512, 768)
    norm(f"{text}.embeddings.LayerNorm", 768)
    for number in range(12):
        layer = f"{text}.encoder.layer.{number}"
        for attention, source in (("attention", 768), ("crossattention", 1024)):
            linear(f"{layer}.{attention}.self.query", 768, 768)
            linear(f"{layer}.{attention}.self.key", 768, source)
            linear(f"{layer}.{attention}.self.value", 768, source)
            linear(f"{layer}.{attention}.output.dense", 768, 768)
            norm(f"{layer}.{attention}.output.LayerNorm", 768)
        linear(f"{layer}.intermediate.dense", 3072, 768)
        linear(f"{layer}.output.dense", 768, 3072)
        norm(f"{layer}.output.LayerNorm", 768)
    linear("blip.vision_proj", 256, 1024)
    linear("blip.text_proj", 256, 768)
    sizes = (768, 1024, 128, 64, 16, 1)
    for number, rows, columns in zip((0, 2, 4, 6, 7), sizes[1:], sizes[:-1], strict=True):
        linear(f"mlp.layers.{number}", rows, columns)
    return shapes
