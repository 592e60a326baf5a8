"""The BLIP pair of towers as one quick forward over the library's own modules and weights.

The library's forward is right and slow: attention in separate steps, a last text layer for tokens that nobody reads,
and in each of the text layers two projections of all 197 image states for a dozen words. Here the same weights are
used with fused attention, with the last text layer for the first token alone, and with the words carried into the
image's space instead of the image into the words'. Scores agree to rounding; a test holds it. No step depends on
values, so that the forward can be exported and captured.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import BlipTextModel, BlipVisionModel

from ..network import Dimension, Input, right_padded, whole_numbers


def blip_inputs(side: int, words: int, longest: int) -> dict[str, Input]:
    """Pixels, tokens and mask of a scorer: images of `side` pixels, texts of at most `longest` of `words` tokens."""
    batch, length = Dimension("batch", 1, 16, 64), Dimension("length", 2, 16, longest)
    return {
        "pixels": Input((batch, 3, side, side)),
        "tokens": Input((batch, length), torch.int64, whole_numbers(0, words)),
        "mask": Input((batch, length), torch.int64, right_padded),
    }


def encode_image(vision: BlipVisionModel, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels [B, 3, S, S] to image states [B, N, D]."""
    network: Any = vision  # its parts are modules, typed as tensors or modules
    return finish_image(vision, network.embeddings(pixels))


def image_layers(
    vision: BlipVisionModel, states: torch.Tensor, first: int = 0, stop: int | None = None
) -> torch.Tensor:
    """States [B, N, D] before layer `first` to those before layer `stop`; by default through all that follow."""
    network: Any = vision
    for layer in network.encoder.layers[first:stop]:
        attention = layer.self_attn
        mixed = attention.qkv(layer.layer_norm1(states))
        query, key, value = mixed.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).contiguous()
        states = states + attention.projection(_attend(query, key, value))
        states = states + layer.mlp(layer.layer_norm2(states))
    return states


def finish_image(vision: BlipVisionModel, states: torch.Tensor, first: int = 0) -> torch.Tensor:
    """States [B, N, D] before layer `first` to the image states that a text looks at."""
    network: Any = vision
    return network.post_layernorm(image_layers(vision, states, first))


def read_prompts(
    text: BlipTextModel, tokens: torch.Tensor, mask: torch.Tensor, image: torch.Tensor | None
) -> torch.Tensor:
    """Tokens and mask [B, T], padded on the right, to the first token's last state [B, D].

    Every layer looks at `image` [B, N, D_image]; without one it is the plain text encoder.
    """
    network: Any = text
    states = network.embeddings(input_ids=tokens)
    visible = mask[:, None, None, :].bool()
    for number, layer in enumerate(network.encoder.layer):
        is_last = number + 1 == len(network.encoder.layer)
        asking = states[:, :1] if is_last else states
        read = _read(layer.attention.self, asking, states, visible)
        states = layer.attention.output(read, asking)
        if image is not None:
            states = layer.crossattention.output(_look(layer.crossattention.self, states, image), states)
        states = layer.output(layer.intermediate(states), states)
    return states[:, 0]


def _read(attention: Any, asking: torch.Tensor, source: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    heads = (attention.num_attention_heads, attention.attention_head_size)
    query, key, value = (
        projection(states).unflatten(-1, heads).transpose(1, 2)
        for projection, states in ((attention.query, asking), (attention.key, source), (attention.value, source))
    )
    seen = visible.expand(-1, -1, asking.shape[1], -1)  # ONNX Runtime's attention does not stretch a mask
    return scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2)


def _look(attention: Any, asking: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Cross-attention of words [B, T, D] to image states [B, N, E], as [B, T, D].

    query . (K x) is (query K) . x, and the weighted sum of V x is V of the weighted sum: with fewer words than image
    states it is less work to project the words. The key's bias adds the same to all weights, and falls out.
    """
    batch, length, _ = asking.shape
    heads, width = attention.num_attention_heads, attention.attention_head_size
    # [H, B * T, d]: one product per head for the whole batch.
    query = attention.query(asking).view(batch * length, heads, width).transpose(0, 1)
    wanted = torch.bmm(query, attention.key.weight.view(heads, width, -1))
    wanted = wanted.view(heads, batch, length, -1).transpose(0, 1).flatten(1, 2)
    chances = torch.softmax(torch.bmm(wanted, image.transpose(1, 2)).float() * width**-0.5, dim=-1).to(image.dtype)
    seen = torch.bmm(chances, image).view(batch, heads, length, -1).transpose(0, 1).flatten(1, 2)
    context = torch.bmm(seen, attention.value.weight.view(heads, width, -1).transpose(1, 2))
    context = context + attention.value.bias.view(heads, 1, width)
    return context.view(heads, batch, length, width).permute(1, 2, 0, 3).flatten(2)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Heads [B, H, T, d] to joined states [B, T, H * d]."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # A CPU multiplies bfloat16 matrices at twice the speed of its fused attention.
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2)).float()
        context = torch.matmul(torch.softmax(scores, dim=-1).to(query.dtype), value)
    else:
        context = scaled_dot_product_attention(query, key, value)
    return context.transpose(1, 2).flatten(2)
