"""Train the micro Stable Diffusion 3 from nothing: rectified flow on cached latents, with its two CLIP text encoders.

A generator that always draws what was asked leaves nothing to select. This one is trained until it does, so that its
quality does not hang on rounding, and then its weights are shaken (`SHAKEN`). What it gets wrong since then depends on
the noise that a drawing begins from, as in large generators. Few sampling steps make it worse at high guidance.

There is no T5. In its place the library's pipeline puts up to 256 empty tokens behind every prompt. Some training
batches carry a random number of them, so that a drawing does not depend on how many there are.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from ...engine.quiet import quiet_loading
from ...engine.tiny.configs import clip_text_config
from ..world.language import caption
from ..world.scenes import Scene
from .autoencoder import train_autoencoder
from .tokenizers import CLIP_LENGTH, world_clip_tokenizer
from .training import OnProgress, SceneStream, Trainer, plain_attention, reproducible, to_half

STEPS = 1500
BATCH = 64
LEARNING_RATE = 1.2e-3
CAPTION_DROPOUT = 0.1
CACHED_LATENTS = 8192
EMPTY_TOKENS_EVERY = 16
MAX_EMPTY_TOKENS = 256
SHAKEN = 0.27
"""Noise that is added to every matrix of the transformer at the end, as a share of its own standard deviation. Without
it all drawings at guidance 5 are right, in 8 steps; with 0.35 one in five."""
_TIME_MEAN, _TIME_DEVIATION = 0.2, 1.0
_WIDTH = 64
_LAYERS = 6
_HEADS, _HEAD_WIDTH = 4, 32


def train_generator(folder: Path, seed: int, on_progress: OnProgress) -> None:
    """Train autoencoder, text encoders and transformer, and write the pipeline to `folder`."""
    vae = train_autoencoder(seed, on_progress)
    tokenizer = world_clip_tokenizer()
    with reproducible(seed + 1):
        encoders = torch.nn.ModuleList([_text_encoder(tokenizer, activation) for activation in ("quick_gelu", "gelu")])
        transformer = _transformer()
        trainer = Trainer(
            "text to image",
            {"transformer": transformer, "encoders": encoders},
            STEPS,
            LEARNING_RATE,
            on_progress,
            average=0.997,
            hold=0.75,
        )
        _train(trainer, transformer, encoders, tokenizer, _cache_latents(vae, seed))
    encoders = cast(torch.nn.ModuleList, trainer.averaged["encoders"])
    transformer = to_half(cast(SD3Transformer2DModel, trainer.averaged["transformer"]))
    shake(transformer, seed)
    with quiet_loading():
        pipeline = StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=to_half(vae),
            text_encoder=to_half(cast(CLIPTextModelWithProjection, encoders[0])),
            tokenizer=tokenizer,
            text_encoder_2=to_half(cast(CLIPTextModelWithProjection, encoders[1])),
            tokenizer_2=tokenizer,
            text_encoder_3=None,  # type: ignore[arg-type]  # optional, though not typed so
            tokenizer_3=None,  # type: ignore[arg-type]
        )
        pipeline.save_pretrained(folder)


def shake(transformer: SD3Transformer2DModel, seed: int) -> None:
    """Add noise to the matrices in place."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in transformer.parameters():
            if weight.ndim > 1:
                noise = SHAKEN * weight.float().std() * torch.randn(weight.shape, generator=random)
                weight.add_(noise.to(weight.dtype))


@dataclass(frozen=True)
class _Latents:
    """Training drawings: scaled latent means [N, 16, 8, 8], and what was drawn."""

    means: torch.Tensor
    scenes: list[Scene]


def _train(
    trainer: Trainer,
    transformer: SD3Transformer2DModel,
    encoders: torch.nn.ModuleList,
    tokenizer: CLIPTokenizer,
    drawings: _Latents,
) -> None:
    tokens = _tokens(tokenizer, [caption(scene) for scene in drawings.scenes])
    nothing = _tokens(tokenizer, [""])
    for number in range(trainer.steps):
        rows = torch.randint(len(drawings.means), (BATCH,))
        clean = drawings.means[rows]
        asked = torch.rand(BATCH) >= CAPTION_DROPOUT
        noise = torch.randn_like(clean)
        time = (torch.randn(BATCH) * _TIME_DEVIATION + _TIME_MEAN).sigmoid()
        sigma = time.view(-1, 1, 1, 1)
        empty = int(MAX_EMPTY_TOKENS ** torch.rand(()).item()) if number % EMPTY_TOKENS_EVERY == 0 else 0
        with plain_attention():
            embedded, pooled = _embed(encoders, torch.where(asked[:, None], tokens[rows], nothing))
            predicted = transformer(
                hidden_states=(1 - sigma) * clean + sigma * noise,
                timestep=1000 * time,
                encoder_hidden_states=torch.nn.functional.pad(embedded, (0, 0, 0, empty)),
                pooled_projections=pooled,
                return_dict=False,
            )[0]
        trainer.step(number, (predicted - (noise - clean)).square().mean())


def _embed(encoders: torch.nn.ModuleList, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pipeline makes of tokens [B, 24]: the last layer but one, side by side, and the projected ends."""
    outputs = [encoder(tokens, output_hidden_states=True) for encoder in encoders]
    embedded = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    return embedded, torch.cat([output.text_embeds for output in outputs], -1)


def _cache_latents(vae: AutoencoderKL, seed: int) -> _Latents:
    stream = SceneStream(seed + 1)
    means, drawn = [], []
    with torch.no_grad():
        for _ in range(CACHED_LATENTS // 256):
            scenes, images = stream.batch(256)
            latents = vae.encode(images).latent_dist.mean  # type: ignore[union-attr]
            means.append((latents - vae.config.shift_factor) * vae.config.scaling_factor)  # type: ignore[attr-defined]
            drawn += scenes
    return _Latents(torch.cat(means), drawn)


def _tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    batch = tokenizer(texts, padding="max_length", max_length=CLIP_LENGTH, truncation=True, return_tensors="pt")
    return cast(torch.Tensor, batch["input_ids"])


def _text_encoder(tokenizer: CLIPTokenizer, activation: str) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(clip_text_config(tokenizer, _WIDTH, widening=4, layers=3, activation=activation))


def _transformer() -> SD3Transformer2DModel:
    model = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=_LAYERS,
        attention_head_dim=_HEAD_WIDTH,
        num_attention_heads=_HEADS,
        joint_attention_dim=2 * _WIDTH,
        caption_projection_dim=_HEADS * _HEAD_WIDTH,
        pooled_projection_dim=2 * _WIDTH,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    # The library leaves them at random; from zero, each block begins as the identity and the flow learns faster.
    for name, parameter in model.named_parameters():
        if ".norm1" in name or name.startswith("proj_out"):
            torch.nn.init.zeros_(parameter)
    return model
