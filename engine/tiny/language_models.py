"""Tiny random-weight builds of the models that write or judge text: LLaVA, ArmoRM and a chat model."""

from pathlib import Path

from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from ..networks.text_reward import TextRewardModel, gate_pattern_of
from .folder import build_once
from .tokenizers import LLAMA3_SPECIALS, LLAMA3_TEMPLATE, VICUNA_TEMPLATE, byte_tokenizer, token_id, word_tokens
from .weights import randomize, speak_only

# Attention louder than the residual stream, so that a text depends on all of its past and not on the last word only.
TALKATIVE = {"o_proj.weight": 3.0, "v_proj.weight": 2.0, "q_proj.weight": 2.0, "linear_2.weight": 2.0}


def build_responder(
    folder: Path, seed: int = 0, *, image_size: int = 56, hidden_size: int = 64, num_hidden_layers: int = 2
) -> Path:
    """LLaVA 1.5: CLIP vision tower with patch 14, projector, Llama with the Vicuna template."""

    def build(fresh: Path) -> None:
        tokenizer = byte_tokenizer(["<unk>", "<s>", "</s>", "<pad>", "<image>"], bos="<s>", eos="</s>", pad="<pad>")
        image_token = token_id(tokenizer, "<image>")
        vision = CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            projection_dim=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=image_size,
            patch_size=14,
        )
        text = _llama(tokenizer, hidden_size=hidden_size, num_hidden_layers=num_hidden_layers)
        config = LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=image_token,
            image_seq_length=(image_size // 14) ** 2,
        )
        config.pad_token_id = _id(tokenizer.pad_token_id)
        model = LlavaForConditionalGeneration(config)
        randomize(model, seed, TALKATIVE)
        speak_only(model.lm_head, word_tokens(tokenizer), _id(tokenizer.eos_token_id))
        set_stop(model, tokenizer)
        model.save_pretrained(fresh)
        LlavaProcessor(
            image_processor=CLIPImageProcessorPil(
                size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
            ),
            tokenizer=tokenizer,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=VICUNA_TEMPLATE,
        ).save_pretrained(fresh)

    return build_once(folder, seed, f"responder, {image_size} pixels, {hidden_size} x {num_hidden_layers}", build)


def build_text_reward(folder: Path, seed: int = 0) -> Path:
    """ArmoRM: Llama body, 19 attributes and the gate; Llama-3's special tokens and chat template."""

    def build(fresh: Path) -> None:
        tokenizer = _llama3_tokenizer()
        config = _llama(tokenizer, hidden_size=64, num_hidden_layers=2)
        config.num_objectives = 19
        config.gating_temperature = 10
        config.gating_hidden_dim = 32
        config.gating_n_hidden = 3
        config.gate_pattern = gate_pattern_of(tokenizer)
        model = TextRewardModel(config)
        randomize(model, seed, {"gating.layers.3.weight": 20.0})
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)

    return build_once(folder, seed, "text reward", build)


def build_text_model(folder: Path, seed: int = 0) -> Path:
    """A Llama chat model for writing instructions."""

    def build(fresh: Path) -> None:
        tokenizer = _llama3_tokenizer()
        model = LlamaForCausalLM(_llama(tokenizer, hidden_size=64, num_hidden_layers=2))
        randomize(model, seed, TALKATIVE)
        speak_only(model.lm_head, word_tokens(tokenizer), _id(tokenizer.eos_token_id))
        set_stop(model, tokenizer)
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)

    return build_once(folder, seed, "text model", build)


def _llama3_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer(["<|pad|>", *LLAMA3_SPECIALS], bos="<|begin_of_text|>", eos="<|eot_id|>", pad="<|pad|>")
    tokenizer.chat_template = LLAMA3_TEMPLATE
    return tokenizer


def _llama(tokenizer: PreTrainedTokenizerFast, *, hidden_size: int, num_hidden_layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        bos_token_id=_id(tokenizer.bos_token_id),
        eos_token_id=_id(tokenizer.eos_token_id),
        pad_token_id=_id(tokenizer.pad_token_id),
        tie_word_embeddings=False,
    )


def set_stop(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Have generation end at the tokenizer's end token."""
    model.generation_config = GenerationConfig(
        bos_token_id=None if tokenizer.bos_token is None else _id(tokenizer.bos_token_id),
        eos_token_id=_id(tokenizer.eos_token_id),
        pad_token_id=_id(tokenizer.pad_token_id),
    )


def _id(token: object) -> int:
    """Special tokens are typed as anything; ours are single numbers."""
    assert isinstance(token, int)
    return token
