"""The network as it is trained: its first layers frozen, and what they say of an image taken from a cache.

ImageReward freezes the first 70 % of the layers of both towers, with the embeddings before them. What of that can be
computed once and kept?

- The image's states after the last frozen layer of its tower depend on the image alone: these are kept, and with them
  more than a third of a step's operations (`prefmill bench reward`).
- The text tower looks at the image from its first layer on, and what it looks at are the last states of the image
  tower, whose last layers learn. So nothing behind the first look can be kept, frozen or not. What is before it, the
  embeddings and one self-attention, depends on the text alone, and is less than half a percent of a step.

(In the published code the loop that freezes ends behind the first parameter of the first layer that learns: one
projection and one norm's scale stay frozen by accident. Here a layer is frozen or it is not.)
"""

from __future__ import annotations

from typing import Any

import torch

from ...engine.networks.blip import encode_image, finish_image, image_layers, read_prompts
from ...engine.networks.image_reward import ImageRewardModel


class RewardNetwork(torch.nn.Module):
    """An ImageRewardModel whose first layers are frozen. Its aspects' heads learn where it has them, else `head`."""

    def __init__(self, model: ImageRewardModel, frozen_share: float) -> None:
        super().__init__()
        self.model = model
        self.frozen_share = frozen_share
        vision, text = self._towers()
        self.depth = int(frozen_share * len(vision.encoder.layers))
        """So many of the image tower's layers are frozen."""
        frozen = [vision.embeddings, *vision.encoder.layers[: self.depth]]
        frozen += [text.embeddings, *text.encoder.layer[: int(frozen_share * len(text.encoder.layer))]]
        if frozen_share == 1:
            frozen += [vision.post_layernorm]
        for module in frozen if frozen_share else []:
            module.requires_grad_(False)
        for layer in text.encoder.layer:  # it adds the same to all weights of a look: its gradient is zero
            layer.crossattention.self.key.bias.requires_grad_(False)
        if model.config.aspects:
            model.head.requires_grad_(False)

    @property
    def heads(self) -> torch.nn.Linear:
        """What makes rewards of the first word's last state."""
        return self.model.aspect_heads if self.model.config.aspects else self.model.head

    @property
    def image_size(self) -> int:
        """The side in pixels of what the image tower reads."""
        return int(self.model.vision_model.config.image_size)  # type: ignore[arg-type]  # square here

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of one image's features."""
        vision: Any = self.model.vision_model.config
        if not self.frozen_share:
            return (3, self.image_size, self.image_size)
        return ((self.image_size // int(vision.patch_size)) ** 2 + 1, int(vision.hidden_size))

    @torch.no_grad()
    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, S, S] to what the frozen layers make of them [B, N, D]; where nothing is frozen, the pixels."""
        if not self.frozen_share:
            return pixels
        vision, _ = self._towers()
        return image_layers(vision, vision.embeddings(pixels), 0, self.depth)

    def forward(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        features: torch.Tensor | None = None,
        pixels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Tokens and mask [B, T], and features [B, ...] or pixels [B, 3, S, S], to raw rewards [B, H] in float32."""
        if features is None:
            assert pixels is not None
            features = self.features(pixels)
        vision, text = self._towers()
        image = finish_image(vision, features, self.depth) if self.frozen_share else encode_image(vision, features)
        rewards = self.heads(read_prompts(text, tokens, mask, image))
        return rewards.to(torch.promote_types(rewards.dtype, torch.float32))

    def _towers(self) -> tuple[Any, Any]:  # their parts are modules, typed as tensors or modules
        return self.model.vision_model, self.model.text_model
