"""Tiny random-weight builds of vision-language models beside LLaVA 1.5, each with its family's own way with images.

LLaVA-NeXT and Idefics3 cut an image into tiles by its shape, InternVL does so with one size of tile; Qwen's take it in
its own shape and count positions in rows and columns; Qwen3-VL adds features to several layers of the language model.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as library
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config

from ..processors import without_videos
from .folder import build_once
from .language_models import TALKATIVE, set_stop
from .tokenizers import CHATML_TEMPLATE, IDEFICS_TEMPLATE, VICUNA_TEMPLATE, byte_tokenizer, token_id, word_tokens
from .weights import randomize, speak_only

_TILE = 28
_PATCH = 14
_WIDTH = 64

Parts = tuple[PreTrainedModel, Any]
"""A model, and its processor."""


def build_vision_language_model(folder: Path, family: str, seed: int = 0) -> Path:
    """Build one of FAMILIES."""

    def build(fresh: Path) -> None:
        model, processor = FAMILIES[family]()
        tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        randomize(model, seed, TALKATIVE)
        head: Any = model.get_output_embeddings()
        speak_only(head, word_tokens(tokenizer), token_id(tokenizer, str(tokenizer.eos_token)))
        set_stop(model, tokenizer)
        model.save_pretrained(fresh)
        processor.save_pretrained(fresh)

    return build_once(folder, seed, family, build)


def _llava_next() -> Parts:
    tokenizer = byte_tokenizer(["<unk>", "<s>", "</s>", "<pad>", "<image>"], bos="<s>", eos="</s>", pad="<pad>")
    tower = CLIPVisionConfig(
        **_tower(num_hidden_layers=3), projection_dim=32, num_attention_heads=4, image_size=_TILE, patch_size=_PATCH
    )
    tiles = [[_TILE, 2 * _TILE], [2 * _TILE, _TILE], [2 * _TILE, 2 * _TILE]]
    config = library.LlavaNextConfig(
        vision_config=tower,
        text_config=LlamaConfig(**_text(tokenizer)),
        image_token_index=token_id(tokenizer, "<image>"),
        image_grid_pinpoints=tiles,
    )
    images = library.LlavaNextImageProcessorPil(
        size={"shortest_edge": _TILE}, crop_size={"height": _TILE, "width": _TILE}, image_grid_pinpoints=tiles
    )
    processor = library.LlavaNextProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA_TEMPLATE,
    )
    return library.LlavaNextForConditionalGeneration(config), processor


def _qwen(name: str, processor: str, patch: int, **tower: Any) -> Parts:
    tokenizer = _chatml("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    config = getattr(library, f"{name}Config")(
        text_config={**_text(tokenizer), "head_dim": 16, "rope_parameters": rope},
        vision_config={"depth": 3, "patch_size": patch, "temporal_patch_size": 2, "spatial_merge_size": 2, **tower},
        image_token_id=token_id(tokenizer, "<|image_pad|>"),
        video_token_id=token_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=token_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=token_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=False,
    )
    side = 2 * patch
    images = library.Qwen2VLImageProcessorPil(
        patch_size=patch, merge_size=2, min_pixels=side**2, max_pixels=16 * side**2
    )
    template = CHATML_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    made = without_videos(getattr(library, processor))(images, tokenizer, chat_template=template)
    return getattr(library, f"{name}ForConditionalGeneration")(config), made


def _idefics(name: str) -> Parts:
    cells = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    specials = ["<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>"]
    tokenizer = byte_tokenizer(
        [*specials, "<global-img>", *cells], bos=None, eos="<end_of_utterance>", pad="<|im_end|>"
    )
    pad = token_id(tokenizer, "<|im_end|>")
    config = getattr(library, f"{name}Config")(
        vision_config={**_tower(), "num_attention_heads": 2, "image_size": 2 * _TILE, "patch_size": _PATCH},
        text_config=LlamaConfig(**_text(tokenizer)),
        image_token_id=token_id(tokenizer, "<image>"),
        scale_factor=2,
        pad_token_id=pad,
        tie_word_embeddings=False,
    )
    images = library.Idefics3ImageProcessorPil(
        size={"longest_edge": 4 * _TILE}, max_image_size={"longest_edge": 2 * _TILE}
    )
    # SmolVLM's own processor cannot be made without torchvision; what it does with images is Idefics3's.
    processor = library.Idefics3Processor(images, tokenizer=tokenizer, image_seq_len=4, chat_template=IDEFICS_TEMPLATE)
    return getattr(library, f"{name}ForConditionalGeneration")(config), processor


def _internvl() -> Parts:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _chatml(*named.values(), named=named)
    side = [2 * _TILE, 2 * _TILE]
    config = library.InternVLConfig(
        vision_config={**_tower(), "num_attention_heads": 2, "image_size": side, "patch_size": [_PATCH, _PATCH]},
        text_config=Qwen2Config(**_text(tokenizer)),
        image_token_id=token_id(tokenizer, "<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    images = library.GotOcr2ImageProcessorPil(
        size={"height": side[0], "width": side[1]}, crop_to_patches=True, min_patches=1, max_patches=3
    )
    template = CHATML_TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>\n")
    processor = without_videos(library.InternVLProcessor)(images, tokenizer, image_seq_length=4, chat_template=template)
    return library.InternVLForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], Parts]] = {
    "llava-next": _llava_next,
    "qwen2-vl": lambda: _qwen(
        "Qwen2VL", "Qwen2VLProcessor", 14, embed_dim=32, hidden_size=_WIDTH, num_heads=2, mlp_ratio=2
    ),
    "qwen2.5-vl": lambda: _qwen(
        "Qwen2_5_VL",
        "Qwen2_5_VLProcessor",
        14,
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        out_hidden_size=_WIDTH,
        window_size=56,
        fullatt_block_indexes=[1],
    ),
    "qwen3-vl": lambda: _qwen(
        "Qwen3VL",
        "Qwen3VLProcessor",
        16,
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        out_hidden_size=_WIDTH,
        num_position_embeddings=64,
        deepstack_visual_indexes=[0, 1],
    ),
    "smolvlm": lambda: _idefics("SmolVLM"),
    "idefics3": lambda: _idefics("Idefics3"),
    "internvl": _internvl,
}
"""By the name that follows `random:`."""


def _chatml(*specials: str, named: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    return byte_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *specials],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        named=named,
    )


def _tower(num_hidden_layers: int = 2) -> dict[str, Any]:
    return {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": num_hidden_layers}


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
