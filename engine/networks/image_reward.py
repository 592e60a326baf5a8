"""The ImageReward network, from the BLIP parts that transformers has, and the way from its official weights.

Four facts decide parity with the original, and none of them is a library default: vision LayerNorm eps 1e-6, 12 text
heads, `is_decoder=True` in the text config (it makes the cross-attention) with `is_decoder=False` in the call (a
bidirectional mask), and [CLS] as the first text token. The original head is five linear layers with nothing between
them, which is one affine map; it is folded into one when official weights are converted.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import (
    BlipConfig,
    BlipPreTrainedModel,
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
)

from ...base.errors import PrefmillError
from ...kernels.reward_head import affine_rewards
from ..checkpoint import load_strict, raise_for_report, read_config
from .blip import encode_image, read_prompts
from .linear_heads import fold_layers

OFFICIAL_WEIGHTS = "ImageReward.pt"
_HEAD_LAYERS = (0, 2, 4, 6, 7)  # 1, 3 and 5 are dropouts
_DROPPED = re.compile(r"blip\.(vision_proj|text_proj)\.|\.position_ids$")
# Official name to ours; the first pattern that matches decides.
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"^blip\.visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
    (r"^blip\.text_encoder\.", "text_model."),
)


class ImageRewardConfig(BlipConfig):
    """A BLIP config pair, and the mean and deviation by which the raw output is standardised.

    `aspects` names what further heads rate, in their order; the published network has none.
    """

    model_type = "image_reward"

    reward_mean: float = 0.16717362830052426
    reward_deviation: float = 1.0333394966054072
    aspects: list[str] | None = None


class ImageRewardModel(BlipPreTrainedModel):
    """Image and text to one standardised reward."""

    config: ImageRewardConfig  # type: ignore[reportIncompatibleVariableOverride]
    config_class = ImageRewardConfig
    base_model_prefix = "image_reward"

    def __init__(self, config: ImageRewardConfig) -> None:
        super().__init__(config)
        self.vision_model = BlipVisionModel(config.vision_config)  # type: ignore[arg-type]  # a dict only in JSON
        self.text_model = BlipTextModel(config.text_config, add_pooling_layer=False)  # type: ignore[arg-type]
        self.head = torch.nn.Linear(self.text_model.config.hidden_size, 1)
        if config.aspects:
            self.aspect_heads = torch.nn.Linear(self.text_model.config.hidden_size, len(config.aspects))
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Pixels [B, 3, S, S], tokens and mask [B, T] to rewards [B]."""
        if self.training:  # the library's forward knows dropout and gradient checkpointing
            first = self._library_forward(pixel_values, input_ids, attention_mask)
        else:
            first = self._quick_forward(pixel_values, input_ids, attention_mask)
        return self._reward(first)

    def rate(self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The same to [B, 1 + aspects]: the reward, then what each of the further heads says."""
        first = self._quick_forward(pixel_values, input_ids, attention_mask)
        return torch.cat([self._reward(first)[:, None], self.aspect_heads(first)], dim=1)

    def _quick_forward(self, pixels: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return read_prompts(self.text_model, tokens, mask, encode_image(self.vision_model, pixels))

    def _reward(self, first: torch.Tensor) -> torch.Tensor:
        mean, deviation = self.config.reward_mean, self.config.reward_deviation
        if torch.is_grad_enabled():  # the kernel has no backward
            return (self.head(first).squeeze(-1) - mean) / deviation
        return affine_rewards(first, self.head.weight[0], self.head.bias, mean, deviation)

    def _library_forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        image = self.vision_model(pixel_values).last_hidden_state
        text = self.text_model(
            input_ids, attention_mask=attention_mask, encoder_hidden_states=image, is_decoder=False
        ).last_hidden_state
        return text[:, 0]


def load_image_reward(folder: Path, dtype: torch.dtype = torch.float32) -> ImageRewardModel:
    """Load a folder written by `save_pretrained`, or one with the official `ImageReward.pt`; all weights must fit.

    Raises PrefmillError for whatever does not fit.
    """
    if not (folder / OFFICIAL_WEIGHTS).is_file():
        return load_strict(ImageRewardModel, folder, dtype=dtype)
    config = _official_config(folder)
    model = ImageRewardModel(config)
    try:
        state = torch.load(folder / OFFICIAL_WEIGHTS, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise PrefmillError(
            f"{folder / OFFICIAL_WEIGHTS} is truncated or no weight file.", "download it again"
        ) from error
    converted = convert_official_state_dict(state)
    wanted = model.state_dict()
    raise_for_report(
        folder,
        {
            "missing_keys": wanted.keys() - converted.keys(),
            "unexpected_keys": converted.keys() - wanted.keys(),
            "mismatched_keys": [
                (key, value.shape, wanted[key].shape)
                for key, value in converted.items()
                if key in wanted and value.shape != wanted[key].shape
            ],
        },
    )
    model.load_state_dict(converted, assign=True)
    model.to(dtype)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
    return model.eval()


def convert_official_state_dict(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Official names to ours, the five-layer head folded to one. Raises PrefmillError for a name it does not know."""
    converted: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if key.startswith("mlp.layers.") or _DROPPED.search(key):
            continue
        for pattern, replacement in _RENAMES:
            renamed, count = re.subn(pattern, replacement, key)
            if count:
                converted[renamed] = value
                break
        else:
            raise PrefmillError(f"{key!r} is no weight of ImageReward.", "use the official ImageReward.pt")
    converted["head.weight"], converted["head.bias"] = fold_layers(state, "mlp.layers.", _HEAD_LAYERS)
    return converted


def official_config(**text: object) -> ImageRewardConfig:
    """The published size: ViT-L/16 at 224 pixels and BERT-base; `text` overrides fields of the text config."""
    vision = BlipVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=16,
        layer_norm_eps=1e-6,
    )
    fields = {"num_attention_heads": 12, "encoder_hidden_size": 1024, "is_decoder": True, **text}
    return ImageRewardConfig(vision_config=vision, text_config=BlipTextConfig(**fields))  # type: ignore[arg-type]


def _official_config(folder: Path) -> ImageRewardConfig:
    """`med_config.json` decides the text sizes; its `encoder_width` is wrong and overridden upstream too."""
    stated = read_config(folder, "med_config.json")
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return official_config(**{name: stated[name] for name in names if name in stated})
