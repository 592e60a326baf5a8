"""One step of sampling as one network: the transformer, guidance of every row by its own scale, and the step itself.

Prompted and unprompted rows go through the transformer in one batch. With the step inside, a compiled engine is called
once per step and hands nothing over in between; the velocities come out as well, for samplers that step by themselves.
"""

from dataclasses import dataclass
from typing import Any

import torch

from ...kernels.guided_step import guided_step
from ..network import Dimension, Input, Network, between
from ..runner import Runner
from .decode import side_dimensions

_KEPT_PRECISE = ("time_text_embed", "context_embedder", "pos_embed", "norm_out", "proj_out")
"""What the published eight-bit recipes of this model leave alone."""


@dataclass(frozen=True)
class Steps:
    """What runs a guided step, and one without guidance, which costs half; None where every image is guided."""

    guided: Runner
    plain: Runner | None = None


def step_network(transformer: Any, tokens: int, *, guided: bool) -> Network:
    """The step of a transformer that reads `tokens` text tokens.

    Inputs: `latents` [B, C, h, w], `times` [B] as the transformer counts them, `tokens` [B, T, D] and `pooled` [B, P]
    of the prompts, noise `level` [B] and the `following` one; guided, `empty_tokens` [1, T, D] and `empty_pooled`
    [1, P] of the empty prompt, and the scales `guidance` [B]. Outputs: `next_latents`, and the velocities
    `prompted` and, guided, `unprompted`.
    """
    config = transformer.config
    batch = Dimension("batch", 1, 8, 64)
    width, pooled = int(config.joint_attention_dim), int(config.pooled_projection_dim)
    inputs = {
        "latents": Input((batch, int(config.in_channels), *side_dimensions(config))),
        "times": Input((batch,), torch.float32, between(1.0, 1000.0)),
        "level": Input((batch,), torch.float32, between(0.5, 1.0)),
        "following": Input((batch,), torch.float32, between(0.0, 0.5)),
        "tokens": Input((batch, tokens, width)),
        "pooled": Input((batch, pooled)),
    }
    if not guided:
        outputs = ("next_latents", "prompted")
        return Network("sd3_plain_step", transformer, _plain_step, inputs, outputs, kept_precise=_KEPT_PRECISE)
    inputs |= {
        "empty_tokens": Input((1, tokens, width)),
        "empty_pooled": Input((1, pooled)),
        "guidance": Input((batch,), torch.float32, between(1.0, 11.0)),
    }
    outputs = ("next_latents", "prompted", "unprompted")
    return Network("sd3_guided_step", transformer, _guided_step, inputs, outputs, kept_precise=_KEPT_PRECISE)


def _guided_step(
    transformer: Any,
    latents: torch.Tensor,
    times: torch.Tensor,
    level: torch.Tensor,
    following: torch.Tensor,
    tokens: torch.Tensor,
    pooled: torch.Tensor,
    empty_tokens: torch.Tensor,
    empty_pooled: torch.Tensor,
    guidance: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    text = (tokens, pooled, empty_tokens, empty_pooled)
    prompted, unprompted = guided_velocities(transformer, latents, times, *text)
    return guided_step(latents, prompted, unprompted, guidance, level, following), prompted, unprompted


def _plain_step(
    transformer: Any,
    latents: torch.Tensor,
    times: torch.Tensor,
    level: torch.Tensor,
    following: torch.Tensor,
    tokens: torch.Tensor,
    pooled: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    velocity = plain_velocity(transformer, latents, times, tokens, pooled)
    return guided_step(latents, velocity, velocity, torch.ones_like(level), level, following), velocity


def guided_velocities(
    transformer: Any,
    latents: torch.Tensor,
    times: torch.Tensor,
    tokens: torch.Tensor,
    pooled: torch.Tensor,
    empty_tokens: torch.Tensor,
    empty_pooled: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompted and unprompted velocities [B, C, h, w], in one call; inputs as `step_network` has them."""
    rows = latents.shape[0]
    velocity = plain_velocity(
        transformer,
        torch.cat([latents, latents]),
        torch.cat([times, times]),
        torch.cat([empty_tokens.expand(rows, -1, -1), tokens]),
        torch.cat([empty_pooled.expand(rows, -1), pooled]),
    )
    return velocity[rows:], velocity[:rows]  # not chunk: its guard on the batch breaks an export


def plain_velocity(
    transformer: Any, latents: torch.Tensor, times: torch.Tensor, tokens: torch.Tensor, pooled: torch.Tensor
) -> torch.Tensor:
    """The velocity [B, C, h, w] under one prompt per row; inputs as `step_network` has them."""
    return transformer(
        hidden_states=latents,
        timestep=times,
        encoder_hidden_states=tokens,
        pooled_projections=pooled,
        return_dict=False,
    )[0]
