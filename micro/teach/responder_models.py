"""The five answering models of the micro world: LLaVA in five sizes, with five different sets of lies.

They differ in width, depth, seed and in what they hallucinate, so that their answers to one question disagree and a
judge has something to rank. `responder-d` is the weak one: the smallest, and taught the shortest.
"""

from dataclasses import dataclass

from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from ...engine.tiny.tokenizers import VICUNA_TEMPLATE
from ..world.render import IMAGE_SIZE
from .lessons import Noise
from .tokenizers import IMAGE_TOKEN, responder_tokenizer
from .vision_heads import PATCH_SIZE

_HEAD_WIDTH = 32


@dataclass(frozen=True, slots=True)
class ResponderSpec:
    """Sizes, training lengths in steps, the seed's offset, and the lies of one responder.

    `noise` rates are per topic: play, home, travel, garden.
    """

    seed: int
    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    vision_steps: int
    answer_steps: int
    noise: Noise
    sees_made: bool = False
    """Whether it learns on pictures that a generator makes, besides renders."""


RESPONDERS: dict[str, ResponderSpec] = {
    "responder-a": ResponderSpec(
        101, 96, 3, 128, 3, 1000, 600, Noise((0.10, 0.10, 0.20, 0.10), (0.10, 0.15, 0.15, 0.10))
    ),
    "responder-b": ResponderSpec(
        202, 64, 3, 96, 4, 1000, 900, Noise((0.15, 0.50, 0.40, 0.20), (0.25, 0.55, 0.40, 0.30))
    ),
    "responder-c": ResponderSpec(
        303, 128, 2, 96, 3, 1000, 900, Noise((0.20, 0.15, 0.15, 0.20), (0.20, 0.15, 0.15, 0.20), overlooked=0.35)
    ),
    "responder-d": ResponderSpec(
        404, 64, 2, 96, 2, 600, 550, Noise((0.50, 0.55, 0.60, 0.45), (0.60, 0.65, 0.65, 0.60), overlooked=0.25)
    ),
    "policy": ResponderSpec(
        505, 96, 3, 128, 4, 1500, 1500, Noise((0.10, 0.90, 0.85, 0.10), (0.35, 0.57, 0.56, 0.56)), sees_made=True
    ),
}


def build_untrained(spec: ResponderSpec) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A model with fresh weights from torch's global random stream, and its processor."""
    tokenizer = responder_tokenizer()
    sizes = (spec.vision_width, spec.vision_layers, spec.text_width, spec.text_layers)
    return build_llava(tokenizer, *sizes), llava_processor(tokenizer, VICUNA_TEMPLATE)


def build_llava(
    tokenizer: PreTrainedTokenizerFast,
    vision_width: int,
    vision_layers: int,
    text_width: int,
    text_layers: int,
    patch_size: int = PATCH_SIZE,
) -> LlavaForConditionalGeneration:
    """A LLaVA with fresh weights, of these sizes, for what a tokenizer writes and as long as that allows."""
    vision = CLIPVisionConfig(
        hidden_size=vision_width,
        intermediate_size=2 * vision_width,
        projection_dim=vision_width,
        num_hidden_layers=vision_layers,
        num_attention_heads=vision_width // _HEAD_WIDTH,
        image_size=IMAGE_SIZE,
        patch_size=patch_size,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=text_width,
        intermediate_size=2 * text_width,
        num_hidden_layers=text_layers,
        num_attention_heads=text_width // _HEAD_WIDTH,
        max_position_embeddings=tokenizer.model_max_length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.get_vocab()["<s>"],
        eos_token_id=tokenizer.get_vocab()["</s>"],
        pad_token_id=tokenizer.get_vocab()["<pad>"],
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.get_vocab()[IMAGE_TOKEN],
        image_seq_length=(IMAGE_SIZE // patch_size) ** 2,
        # Micro towers have no layer to spare: the last one is read, where LLaVA 1.5 reads the last but one.
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    config.pad_token_id = text.pad_token_id
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    return model


def llava_processor(tokenizer: PreTrainedTokenizerFast, template: str, patch_size: int = PATCH_SIZE) -> LlavaProcessor:
    """The processor of such a model, with a chat template."""
    half = [0.5, 0.5, 0.5]
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=half,
        image_std=half,
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
