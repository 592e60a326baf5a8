"""The networks that the engine benchmark runs: those of the product, as their engines declare them.

Weights are trained where the checkpoint is a micro one, and random at the larger sizes: no speed depends on them.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig

from ..engine.device import resolve_device, resolve_weights_dtype
from ..engine.network import Network
from ..engine.networks.image_reward import ImageRewardConfig, ImageRewardModel
from ..engine.scorers.clip import ClipScorer
from ..engine.scorers.image_reward import ImageRewardScorer
from ..engine.scorers.text_reward import TextReward
from ..engine.sd3.step import step_network
from ..engine.sd3.text_to_image import TextToImage
from ..engine.settings import EngineSettings
from ..engine.sources import resolve_checkpoint
from ..engine.text import load_tokenizer
from .sd3_medium import Medium, medium_transformer

CLAIMED = "sd3_55m"
"""The one that `sd3_vs_eager` is about: large enough that a machine computes, and does not administrate."""


def _sd3_micro(settings: EngineSettings) -> Network:
    return TextToImage.from_pretrained("micro:text-to-image", settings, t5_tokens=0).steps.guided.network


def _decoder(settings: EngineSettings) -> Network:
    return TextToImage.from_pretrained("micro:text-to-image", settings, t5_tokens=0).decoder.network


def _sd3_55m(settings: EngineSettings) -> Network:
    """6 layers of 8 heads, 512 wide: 256 image tokens (a latent of 32 x 32) beside 77 of text, 55.1 M parameters."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=16, out_channels=16, num_layers=6, attention_head_dim=64,
        num_attention_heads=8, joint_attention_dim=512, caption_projection_dim=512, pooled_projection_dim=512,
        pos_embed_max_size=32, qk_norm="rms_norm",
    )  # fmt: skip
    return step_network(_placed(transformer, settings), 77, guided=True)


def _sd3_medium(settings: EngineSettings) -> Network:
    """The published size, 2.0 B parameters, at 256 x 256 pixels, which a CPU can wait for."""
    sizes = Medium(latent_side=32, dtype=torch.float32)
    transformer = medium_transformer(sizes, torch.device("cpu"))
    return step_network(_placed(transformer, settings), sizes.text_tokens, guided=True)


def _image_reward_micro(settings: EngineSettings) -> Network:
    return ImageRewardScorer.from_pretrained("micro:image-reward", settings).runner.network


def _image_reward_base(settings: EngineSettings) -> Network:
    """ViT-B/16 at 224 pixels under BERT-base: the published model's smaller sister, 223 M parameters."""
    torch.manual_seed(0)
    vision = BlipVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224,
        patch_size=16, layer_norm_eps=1e-6,
    )  # fmt: skip
    text = BlipTextConfig(num_attention_heads=12, encoder_hidden_size=768, is_decoder=True)
    model = ImageRewardModel(ImageRewardConfig(vision_config=vision, text_config=text))  # type: ignore[arg-type]
    tokenizer = load_tokenizer(resolve_checkpoint("random:image-reward"), BertTokenizer)
    return ImageRewardScorer(_placed(model, settings), tokenizer, "bench").runner.network


def _clip(settings: EngineSettings) -> Network:
    return ClipScorer.from_pretrained("micro:clip", settings).runner.network


def _armorm_body(settings: EngineSettings) -> Network:
    return TextReward.from_pretrained("micro:text-reward", settings).body.network


SPECS: dict[str, Callable[[EngineSettings], Network]] = {
    "sd3_micro": _sd3_micro,
    "sd3_55m": _sd3_55m,
    "sd3_medium": _sd3_medium,
    "decoder": _decoder,
    "image_reward_micro": _image_reward_micro,
    "image_reward_vit_b": _image_reward_base,
    "clip": _clip,
    "armorm_body": _armorm_body,
}

USUAL = tuple(name for name in SPECS if name != "sd3_medium")
"""Those that are measured where nothing is named: the whole of SD3-medium takes 20 GB and 20 minutes."""


def _placed(model: Any, settings: EngineSettings) -> Any:
    device = resolve_device(settings)
    return model.eval().requires_grad_(False).to(device, resolve_weights_dtype(settings, device))
