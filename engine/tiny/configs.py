"""Configurations of BLIP's and CLIP's towers at a size of one's choice, from what their tokenizers say.

Defaults are those of the random checkpoints; what is trained at micro size asks for more.
"""

from transformers import BlipTextConfig, BlipVisionConfig, CLIPTextConfig, PreTrainedTokenizerBase

from .tokenizers import token_id

_HEADS = 4


def blip_configs(
    tokenizer: PreTrainedTokenizerBase,
    width: int,
    *,
    image_size: int,
    patch_size: int,
    widening: int = 2,
    layers: int = 2,
) -> tuple[BlipVisionConfig, BlipTextConfig]:
    """BLIP's image tower and the text tower that looks at it; feed-forward layers are `widening` times as wide."""
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=widening * width,
        num_hidden_layers=layers,
        num_attention_heads=_HEADS,
        image_size=image_size,
        patch_size=patch_size,
        layer_norm_eps=1e-6,
    )
    text = BlipTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        encoder_hidden_size=width,
        intermediate_size=widening * width,
        num_hidden_layers=layers,
        num_attention_heads=_HEADS,
        max_position_embeddings=64,
        is_decoder=True,
        bos_token_id=token_id(tokenizer, "[DEC]"),
        sep_token_id=token_id(tokenizer, "[SEP]"),
        pad_token_id=token_id(tokenizer, "[PAD]"),
    )
    return vision, text


def clip_text_config(
    tokenizer: PreTrainedTokenizerBase,
    width: int,
    *,
    widening: int = 2,
    layers: int = 2,
    activation: str = "quick_gelu",
) -> CLIPTextConfig:
    """CLIP's text tower, as long as its tokenizer's longest text; it projects to its own width."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=widening * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=_HEADS,
        hidden_act=activation,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=token_id(tokenizer, "<|startoftext|>"),
        eos_token_id=token_id(tokenizer, "<|endoftext|>"),
        pad_token_id=token_id(tokenizer, "<|endoftext|>"),
    )
