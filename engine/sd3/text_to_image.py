"""Stable Diffusion 3: prompts to images, with a guidance scale and a seed of its own for every row of a batch.

The four candidates of a prompt differ in guidance, so the stock pipeline, which takes one scale per call, would run
them one by one. One overridden public property makes it take a tensor of scales. Noise is drawn per row on the CPU in
float32, so that a row's image depends on its seed, and not on the device, the precision's random stream or the batch.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from ...base.errors import PrefmillError
from ..checkpoint import checkpoint_key, load_strict, read_config
from ..device import resolve_device, resolve_dtype
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from ..text import bounded_text, load_tokenizer

T5_TOKENS = 256  # the pipeline's default


@dataclass(frozen=True)
class Generated:
    """`images` uint8 [B, H, W, 3] on the model's device; `failures[i]` is None where image i can be used.

    `nan`: the network overflowed (the pixels are black). `constant`: every pixel has one colour.
    """

    images: torch.Tensor
    failures: list[str | None]


@dataclass(frozen=True)
class TextEmbedding:
    """What the transformer sees of one prompt: tokens [1, T, D] and pooled [1, P]."""

    tokens: torch.Tensor
    pooled: torch.Tensor


class PerSampleGuidancePipeline(StableDiffusion3Pipeline):
    """The stock pipeline with `guidance_scale` as a tensor [B, 1, 1, 1]."""

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether any row is guided; a row with scale 1 is then computed as the stock pipeline's unguided one."""
        return bool(torch.as_tensor(self.guidance_scale).max() > 1)


class TextToImage:
    """A loaded Stable Diffusion 3; `key` names the weights by content."""

    def __init__(self, pipeline: PerSampleGuidancePipeline, key: str, t5_tokens: int = T5_TOKENS) -> None:
        self.pipeline = pipeline
        self.key = key
        self.t5_tokens = t5_tokens
        self.pipeline.set_progress_bar_config(disable=True)
        self._empty: TextEmbedding | None = None

    @classmethod
    def from_pretrained(
        cls, source: str, settings: EngineSettings | None = None, *, t5_tokens: int = T5_TOKENS
    ) -> Self:
        """Load every component strictly; T5 may be absent (null in model_index.json).

        `t5_tokens`: how many tokens T5 brings, or empty ones in its place where it is absent. A checkpoint trained
        without those needs 0. Raises PrefmillError for whatever is missing or does not fit.
        """
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        pipeline = PerSampleGuidancePipeline(**_components(folder, resolve_dtype(settings, device)))
        if t5_tokens < 1 and pipeline.text_encoder_3 is not None:
            raise PrefmillError(f"{source} has a T5, which cannot read {t5_tokens} tokens.", "set t5_tokens=256")
        return cls(pipeline.to(device), checkpoint_key(folder), t5_tokens)

    @property
    def noise_specification(self) -> str:
        """How `noise` makes a row's starting latents from its seed: enough to make them again elsewhere."""
        return "torch.randn float32, CPU generator seeded per image, [channels, height / f, width / f]"

    @property
    def default_size(self) -> int:
        """The side in pixels that the checkpoint was trained at."""
        return int(self.pipeline.default_sample_size * self.pipeline.vae_scale_factor)

    @property
    def size_step(self) -> int:
        """Width and height must be multiples of this many pixels."""
        return int(self.pipeline.vae_scale_factor * self.pipeline.patch_size)

    def generate(
        self,
        prompts: Sequence[str],
        guidance: Sequence[float],
        seeds: Sequence[int],
        *,
        steps: int = 28,
        width: int,
        height: int,
    ) -> Generated:
        """Draw one image per (prompt, guidance, seed). Guidance of 1 or less means none.

        Raises PrefmillError for unequal counts, a size the model cannot draw, or a guidance that is not finite.
        """
        return quantize(self.generate_float(prompts, guidance, seeds, steps=steps, width=width, height=height))

    def generate_float(
        self,
        prompts: Sequence[str],
        guidance: Sequence[float],
        seeds: Sequence[int],
        *,
        steps: int = 28,
        width: int,
        height: int,
    ) -> torch.Tensor:
        """`generate` before rounding: float32 [B, 3, H, W] in 0 to 1, NaN where the network overflowed."""
        self._check(prompts, guidance, seeds, steps, width, height)
        rows = [self.encode(prompt) for prompt in dict.fromkeys(prompts)]
        place = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        order = [place[prompt] for prompt in prompts]
        # The stock pipeline runs unguided below 1, which is what a scale of exactly 1 computes.
        scales = torch.tensor([max(float(scale), 1.0) for scale in guidance])
        empty = self._empty_prompt()
        with torch.inference_mode():
            images = self.pipeline(
                prompt_embeds=torch.cat([rows[number].tokens for number in order]),  # type: ignore[arg-type]
                pooled_prompt_embeds=torch.cat([rows[number].pooled for number in order]),  # type: ignore[arg-type]
                negative_prompt_embeds=empty.tokens.expand(len(prompts), -1, -1),  # type: ignore[arg-type]
                negative_pooled_prompt_embeds=empty.pooled.expand(len(prompts), -1),  # type: ignore[arg-type]
                guidance_scale=scales.view(-1, 1, 1, 1).to(self.pipeline.device, self.pipeline.dtype),  # type: ignore[arg-type]
                latents=self.noise(seeds, width=width, height=height),  # type: ignore[arg-type]
                num_inference_steps=steps,
                width=width,
                height=height,
                output_type="pt",
                return_dict=False,
            )[0]
        return images.float()  # type: ignore[union-attr]

    def encode(self, prompt: str) -> TextEmbedding:
        """Embed one prompt. One at a time: the result then has the same bits in every batch."""
        pipeline = self.pipeline
        # Each encoder gets a beginning long enough for it: a megabyte of prompt must not stall a tokenizer.
        clip = [bounded_text(prompt, pipeline.tokenizer, pipeline.tokenizer_max_length)]
        t5 = [bounded_text(prompt, pipeline.tokenizer_3, self.t5_tokens) if pipeline.tokenizer_3 else ""]
        with torch.inference_mode():
            tokens, _, pooled, _ = pipeline.encode_prompt(
                prompt=clip,
                prompt_2=clip,
                prompt_3=t5,
                do_classifier_free_guidance=False,
                max_sequence_length=self.t5_tokens,
            )
        return TextEmbedding(tokens, pooled)  # type: ignore[arg-type]

    def noise(self, seeds: Sequence[int], *, width: int, height: int) -> torch.Tensor:
        """Starting latents [B, C, H/f, W/f], each row from its own seed."""
        factor = self.pipeline.vae_scale_factor
        shape = (self.pipeline.transformer.config.in_channels, height // factor, width // factor)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows).to(self.pipeline.device, self.pipeline.dtype)

    def _empty_prompt(self) -> TextEmbedding:
        if self._empty is None:
            self._empty = self.encode("")
        return self._empty

    def _check(
        self,
        prompts: Sequence[str],
        guidance: Sequence[float],
        seeds: Sequence[int],
        steps: int,
        width: int,
        height: int,
    ) -> None:
        if not len(prompts) == len(guidance) == len(seeds) or not prompts:
            raise PrefmillError(
                f"{len(prompts)} prompts came with {len(guidance)} guidance scales and {len(seeds)} seeds.",
                "give one guidance scale and one seed per prompt, at least one of each",
            )
        if any(not torch.isfinite(torch.tensor(float(scale))) for scale in guidance):
            raise PrefmillError(f"guidance {list(guidance)} is not finite.", "give scales such as 5, 7, 9, 11")
        if steps < 1:
            raise PrefmillError(f"{steps} denoising steps draw nothing.", "give at least 1 step; 28 is usual")
        step = self.size_step
        largest = self.pipeline.transformer.config.pos_embed_max_size * step
        for name, value in (("width", width), ("height", height)):
            if value % step or not 0 < value <= largest:
                nearest = min(max(round(value / step) * step, step), largest)
                raise PrefmillError(
                    f"{name} {value} must be a multiple of {step} up to {largest} for this model.", f"use {nearest}"
                )


def quantize(images: torch.Tensor) -> Generated:
    """Float images [B, 3, H, W] in 0 to 1 to uint8 [B, H, W, 3], with the rows named that are no pictures.

    Rounds as the stock pipeline does: to the nearest of 255 levels.
    """
    finite = images.isfinite().flatten(1).all(1)
    pixels = (images.nan_to_num(0.0) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    pixels[~finite] = 0
    flat = pixels.flatten(1, 2)
    constant = (flat.amax(1) == flat.amin(1)).all(-1)
    failures: list[str | None] = [
        "nan" if not good else "constant" if flat_row else None
        for good, flat_row in zip(finite.tolist(), constant.tolist(), strict=True)
    ]
    return Generated(pixels, failures)


def _components(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    index = read_config(folder, "model_index.json")
    if index.get("_class_name") not in ("StableDiffusion3Pipeline", PerSampleGuidancePipeline.__name__):
        raise PrefmillError(
            f"{folder} holds a {index.get('_class_name')!r}, expected 'StableDiffusion3Pipeline'.",
            "point the text-to-image setting at a Stable Diffusion 3 folder in the diffusers layout",
        )
    classes = {
        "transformer": SD3Transformer2DModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModelWithProjection,
        "text_encoder_2": CLIPTextModelWithProjection,
    }
    components: dict[str, Any] = {
        name: load_strict(model_class, folder / name, dtype=dtype) for name, model_class in classes.items()
    }
    components["tokenizer"] = load_tokenizer(folder / "tokenizer")
    components["tokenizer_2"] = load_tokenizer(folder / "tokenizer_2")
    has_t5 = bool((index.get("text_encoder_3") or [None])[0])
    components["text_encoder_3"] = (
        load_strict(T5EncoderModel, folder / "text_encoder_3", dtype=dtype) if has_t5 else None
    )
    components["tokenizer_3"] = load_tokenizer(folder / "tokenizer_3") if has_t5 else None
    read_config(folder / "scheduler", "scheduler_config.json")
    components["scheduler"] = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    return components
