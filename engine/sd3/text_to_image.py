"""Stable Diffusion 3: prompts to images, with a guidance scale and a seed of its own for every row of a batch.

The four candidates of a prompt differ in guidance, so they are drawn in one batch. Noise is drawn per row on the CPU
in float32, so that a row's image depends on its seed, and not on the device, the precision's random stream or the
batch. In float32 on a CPU the result has the bits of the library's pipeline.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch

from ...base.errors import PrefmillError
from ..backends.catalogue import make_runner, make_runners
from ..checkpoint import checkpoint_key
from ..device import Execution, resolve_device, resolve_weights_dtype
from ..responders.adapter import merge_adapter
from ..runner import Runner
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from .components import Components, load_components
from .decode import Generated, decode, decoder_network, quantize
from .denoise import Drawing, Stochastic, make_schedule
from .guidance import Conditioning
from .levers import Levers
from .step import Steps, step_network
from .text import TextEmbedding, TextEncoders

T5_TOKENS = 256  # as the library's pipeline has it


class TextToImage:
    """A loaded Stable Diffusion 3; `key` names the weights by content."""

    def __init__(
        self,
        components: Components,
        key: str,
        t5_tokens: int = T5_TOKENS,
        *,
        guidance: Sequence[float] = (1.0,),
        settings: EngineSettings | None = None,
        step_settings: EngineSettings | None = None,
        decoded: int | None = None,
    ) -> None:
        """`step_settings` are the transformer's where they differ: weights that change cannot be an engine's."""
        self.key, self.decoded = key, decoded
        self.scheduler = components.scheduler
        self._transformer: Any = components.transformer.config
        self.autoencoder: Any = components.autoencoder
        width = int(self._transformer.joint_attention_dim)
        self.text = TextEncoders(components.tokenizers, components.encoders, width, t5_tokens, settings)
        kinds = (True, False) if min(guidance) <= 1 else (True,)
        steps = [step_network(components.transformer, self.text.length, guided=guided) for guided in kinds]
        self.steps = Steps(*make_runners(steps, step_settings or settings, release=(components.transformer,)))
        self.decoder = make_runner(decoder_network(components.autoencoder, self._transformer), settings)

    @classmethod
    def from_pretrained(
        cls,
        source: str,
        settings: EngineSettings | None = None,
        *,
        t5_tokens: int = T5_TOKENS,
        adapter: Path | None = None,
        guidance: Sequence[float] = (1.0,),
        t5: Literal["device", "host"] = "device",
        decoded: int | None = None,
    ) -> Self:
        """Load every component strictly; T5 may be absent (null in model_index.json).

        `t5_tokens`: how many tokens T5 brings, or empty ones in its place where it is absent. A checkpoint trained
        without those needs 0. `adapter`: a LoRA of the transformer in peft's layout, merged into it. `guidance`: the
        scales it will draw at; where all are above 1, nothing is loaded, and no engine needed, for steps without
        guidance. `t5`: where its weights rest; from the host they come to the device while it encodes. `decoded`: how
        many images the autoencoder decodes at a time, which bounds its memory; on a CPU their last bits can depend on
        it, so by default all. Raises PrefmillError for whatever is missing or does not fit, and for a T5 at rest on the
        host that does not run eagerly.
        """
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        if t5 == "host" and settings.backend != "eager":
            raise PrefmillError(
                f"t5=host moves weights, which an engine of {settings.backend} holds by itself.",
                "set generate.t5=device, or engine.backend=eager",
            )
        at_rest = torch.device("cpu") if t5 == "host" else device
        components = load_components(folder, device, resolve_weights_dtype(settings, device), at_rest)
        if t5_tokens < 1 and components.encoders[2] is not None:
            raise PrefmillError(f"{source} has a T5, which cannot read {t5_tokens} tokens.", "set t5_tokens=256")
        key = checkpoint_key(folder)
        if adapter is not None:
            merged = merge_adapter(components.transformer, adapter)
            components, key = replace(components, transformer=merged), f"{key}+{checkpoint_key(adapter, 'adapter')}"
        return cls(components, key, t5_tokens, guidance=guidance, settings=settings, decoded=decoded)

    @property
    def execution(self) -> Execution:
        """How the networks really run."""
        return self.steps.guided.execution

    @property
    def runners(self) -> tuple[Runner, ...]:
        """Everything that runs a network of it."""
        steps = (self.steps.guided, self.steps.plain) if self.steps.plain else (self.steps.guided,)
        return (*self.text.runners, *steps, self.decoder)

    @property
    def noise_specification(self) -> str:
        """How `noise` makes a row's starting latents from its seed: enough to make them again elsewhere."""
        return "torch.randn float32, CPU generator seeded per image, [channels, height / f, width / f]"

    @property
    def default_size(self) -> int:
        """The side in pixels that the checkpoint was trained at."""
        return int(self._transformer.sample_size * self._factor)

    @property
    def size_step(self) -> int:
        """Width and height must be multiples of this many pixels."""
        return int(self._factor * self._transformer.patch_size)

    def generate(
        self,
        prompts: Sequence[str],
        guidance: Sequence[float],
        seeds: Sequence[int],
        *,
        steps: int = 28,
        width: int,
        height: int,
        levers: Levers | None = None,
    ) -> Generated:
        """Draw one image per (prompt, guidance, seed). Guidance of 1 or less means none.

        Raises PrefmillError for unequal counts, a size the model cannot draw, or a guidance that is not finite.
        """
        rows = (prompts, guidance, seeds)
        return quantize(self.generate_float(*rows, steps=steps, width=width, height=height, levers=levers))

    def generate_float(
        self,
        prompts: Sequence[str],
        guidance: Sequence[float],
        seeds: Sequence[int],
        *,
        steps: int = 28,
        width: int,
        height: int,
        levers: Levers | None = None,
    ) -> torch.Tensor:
        """`generate` before rounding: float32 [B, 3, H, W] in 0 to 1, NaN where the network overflowed."""
        with torch.inference_mode():
            rows = (prompts, guidance, seeds)
            *_, last = self.denoise(*rows, steps=steps, width=width, height=height, levers=levers)
            return self.decode(last.latents)

    def denoise(
        self,
        prompts: Sequence[str],
        guidance: Sequence[float],
        seeds: Sequence[int],
        *,
        steps: int = 28,
        width: int,
        height: int,
        sampler: Stochastic | None = None,
        levers: Levers | None = None,
    ) -> Drawing:
        """The states of a drawing, step by step (see `denoise.py`); `decode` makes images of their latents.

        Raises PrefmillError as `generate` does. Gradients are recorded unless the caller turns them off.
        """
        self._check(prompts, guidance, seeds, steps, width, height)
        # The library's pipeline runs unguided up to 1, and a scale of exactly 1 computes just that.
        scales = torch.tensor([max(float(scale), 1.0) for scale in guidance])
        guided = bool(scales.max() > 1)
        *rows, empty = self.text.encode([*prompts, *([""] if guided else prompts[-1:])])
        prompted = TextEmbedding.stack(rows)
        latents = self.noise(seeds, width=width, height=height)
        image_tokens = latents.shape[2] * latents.shape[3] // self._transformer.patch_size**2
        conditioning = Conditioning(prompted, scales.to(latents.device), empty if guided else None)
        schedule = make_schedule(self.scheduler, steps, image_tokens)
        return Drawing(self.steps, latents, conditioning, schedule, sampler, levers)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, h, w] to float32 images [B, 3, H, W] in 0 to 1, `decoded` of them at a time."""
        config = self.autoencoder.config
        parts = [decode(self.decoder, part, config.scaling_factor, config.shift_factor)
                 for part in latents.split(self.decoded or len(latents))]  # fmt: skip
        return torch.cat(parts)

    def encode(self, prompt: str) -> TextEmbedding:
        """Embed one prompt, as a batch of one."""
        return self.text.encode([prompt])[0]

    def noise(self, seeds: Sequence[int], *, width: int, height: int) -> torch.Tensor:
        """Starting latents [B, C, H/f, W/f], each row from its own seed."""
        shape = (self._transformer.in_channels, height // self._factor, width // self._factor)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows).to(self.steps.guided.device, self.steps.guided.dtype)

    @property
    def _factor(self) -> int:
        """Pixels per latent."""
        return 2 ** (len(self.autoencoder.config.block_out_channels) - 1)

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
        if any(not math.isfinite(scale) for scale in guidance):
            raise PrefmillError(f"guidance {list(guidance)} is not finite.", "give scales such as 5, 7, 9, 11")
        if steps < 1:
            raise PrefmillError(f"{steps} denoising steps draw nothing.", "give at least 1 step; 28 is usual")
        step = self.size_step
        largest = self._transformer.pos_embed_max_size * step
        for name, value in (("width", width), ("height", height)):
            if value % step or not 0 < value <= largest:
                nearest = min(max(round(value / step) * step, step), largest)
                raise PrefmillError(
                    f"{name} {value} must be a multiple of {step} up to {largest} for this model.", f"use {nearest}"
                )
