"""The generator that learns: a Stable Diffusion 3 with LoRA on its transformer, everything else frozen.

There is one set of weights. The reference is the same transformer with the adapter off, and the averaged weights are
put into the adapter for as long as they are asked for. Drawing is the engine's (`engine`): its runners call the very
module that learns, so rollouts see every step of the optimizer, and need no refit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from ...base.errors import PrefmillError
from ...engine.checkpoint import checkpoint_key, summary
from ...engine.sd3.components import load_components
from ...engine.sd3.decode import decode, decoder_network
from ...engine.sd3.denoise import Schedule, State, Stochastic, make_schedule
from ...engine.sd3.guidance import Conditioning
from ...engine.sd3.step import guided_velocities, plain_velocity
from ...engine.sd3.text import KEPT, TextEmbedding
from ...engine.sd3.text_to_image import TextToImage
from ...engine.settings import EngineSettings
from .settings import TARGETS, GeneratorTrainingConfig

Weights = list[torch.Tensor]


class Policy:
    """See the module. `network` is what gradients go through: the adapted transformer, or what a trainer wrapped it in.

    `average` are the averaged weights of the adapter, `anchor` those of a reference other than the base.
    """

    def __init__(self, engine: TextToImage, adapted: PeftModel, config: GeneratorTrainingConfig) -> None:
        self.engine, self.adapted, self.config = engine, adapted, config
        self.network: Callable[..., Any] = adapted
        self.width = config.width or engine.default_size
        self.height = config.height or engine.default_size
        self.average: Weights = self.weights()
        self.anchor: Weights | None = None

    @classmethod
    def load(
        cls, config: GeneratorTrainingConfig, folder: Path, device: torch.device, dtype: torch.dtype, prompts: int = 0
    ) -> Self:
        """Load a folder in the diffusers layout and put a fresh adapter on it, drawn from the seed.

        `prompts`: how many there will be, for their embeddings to be kept. Raises PrefmillError for whatever does not
        load, and a transformer without the layers that LoRA sits on.
        """
        at_rest = torch.device("cpu") if config.t5 == "host" and config.backend == "eager" else device
        components = load_components(folder, device, dtype, at_rest)
        for part in (components.transformer, components.autoencoder, *components.encoders):
            if part is not None:
                part.requires_grad_(False)
        lora = LoraConfig(
            r=config.lora_rank, lora_alpha=config.lora_alpha, init_lora_weights="gaussian", target_modules=list(TARGETS)
        )
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(config.seed)
            try:
                adapted = get_peft_model(cast(Any, components.transformer), lora)
            except ValueError as error:
                raise PrefmillError(
                    f"LoRA does not fit on {config.model}: {summary(error)}", "name a Stable Diffusion 3 or 3.5"
                ) from error
        # the name the user gave: the folder it was read from may be a download cache
        adapted.peft_config["default"].base_model_name_or_path = config.model
        adapted.to(device).eval()
        if config.gradient_checkpointing:
            components.transformer.enable_gradient_checkpointing()
        kind: Any = str(dtype).removeprefix("torch.")
        fixed = EngineSettings(device=str(device), dtype=kind, backend=config.backend, missing=config.missing)
        changing = fixed.model_copy(update={} if config.backend == "torch_compile" else {"backend": "eager"})
        engine = TextToImage(
            components, checkpoint_key(folder), config.t5_tokens, settings=fixed, step_settings=changing
        )
        engine.text.kept = max(KEPT, min(prompts + 1, config.kept_prompts))
        return cls(engine, adapted, config)

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.engine.steps.guided.device

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What learns."""
        return [parameter for name, parameter in self.adapted.named_parameters() if "lora_" in name]

    def schedule(self, steps: int | None = None) -> Schedule:
        """The levels and times of a drawing; by default of a rollout's."""
        shape = self.engine.noise([0], width=self.width, height=self.height).shape
        patch = int(self.adapted.get_base_model().config.patch_size)  # type: ignore[union-attr]
        tokens = shape[-1] * shape[-2] // patch**2
        return make_schedule(self.engine.scheduler, steps or self.config.sampling_steps, tokens)

    def times(self, levels: torch.Tensor) -> torch.Tensor:
        """Noise levels [B] as the transformer counts them."""
        config: Any = self.engine.scheduler.config
        return levels * float(config.num_train_timesteps)

    def conditioning(self, prompts: Sequence[str], guidance: float) -> Conditioning:
        """What a batch is drawn from, every prompt encoded once. A guidance of 1 or less means none."""
        guided = guidance > 1
        *rows, empty = self.engine.text.encode([*prompts, "" if guided else prompts[-1]])
        scales = torch.full((len(prompts),), max(guidance, 1.0), device=self.device)
        return Conditioning(TextEmbedding.stack(rows), scales, empty if guided else None)

    def velocities(
        self, latents: torch.Tensor, times: torch.Tensor, conditioning: Conditioning
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompted and unprompted velocities [B, C, h, w] at `times` [B], differentiable; twice the same unguided.

        Times are those of `schedule` or `times`. Latents may be of a wider type than the transformer's.
        """
        text, latents = conditioning.prompted, latents.to(self.engine.steps.guided.dtype)
        inputs = (self.network, latents, times.to(self.device), text.tokens, text.pooled)
        if (empty := conditioning.unprompted) is not None:
            return guided_velocities(*inputs, empty.tokens, empty.pooled)
        velocity = plain_velocity(*inputs)
        return velocity, velocity

    def draw(
        self,
        prompts: Sequence[str],
        guidance: float,
        seeds: Sequence[int],
        steps: int | None = None,
        sampler: Stochastic | None = None,
    ) -> Iterator[State]:
        """The states of a drawing, step by step and without gradients; by default a rollout's, of the flow's ODE."""
        rows = (prompts, [guidance] * len(prompts), seeds)
        count = steps or self.config.sampling_steps
        with torch.no_grad():
            drawing = self.engine.denoise(*rows, steps=count, width=self.width, height=self.height, sampler=sampler)
        while True:
            with torch.no_grad():
                state = next(drawing, None)
            if state is None:
                return
            yield state

    @torch.no_grad()
    def images(
        self, prompts: Sequence[str], guidance: float, seeds: Sequence[int], steps: int | None = None
    ) -> torch.Tensor:
        """Images float32 [B, 3, H, W] in 0 to 1, `drawing_batch` of them at a time."""
        parts = []
        for start in range(0, len(prompts), self.config.drawing_batch):
            rows = slice(start, start + self.config.drawing_batch)
            *_, last = self.draw(prompts[rows], guidance, seeds[rows], steps)
            parts.append(self.engine.decode(last.latents))
        return torch.cat(parts)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, h, w] to images [B, 3, H, W] in 0 to 1, differentiable: never by an engine."""
        from ...engine.runner import EagerRunner

        autoencoder = self.engine.autoencoder
        runner = EagerRunner(decoder_network(autoencoder, self.adapted.get_base_model().config))
        config = autoencoder.config
        return decode(runner, latents.to(runner.dtype), config.scaling_factor, config.shift_factor)

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] in 0 to 1 to latents float32 [B, C, h, w], the mean of the autoencoder's."""
        autoencoder = self.engine.autoencoder
        pixels = (images * 2 - 1).to(self.device, self.engine.decoder.dtype)
        mean = autoencoder.encode(pixels).latent_dist.mode().float()
        return (mean - autoencoder.config.shift_factor) * autoencoder.config.scaling_factor

    def no_loss(self) -> torch.Tensor:
        """A loss of 0 that touches every weight: what a process gives that has nothing to say."""
        return torch.stack([parameter.sum() for parameter in self.parameters]).sum() * 0.0

    def weights(self) -> Weights:
        """A copy of the adapter's weights."""
        return [parameter.detach().float().clone() for parameter in self.parameters]

    def set_weights(self, weights: Sequence[torch.Tensor]) -> None:
        """Put weights into the adapter, in place: an optimizer that holds its own is not told."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, weights, strict=True):
                parameter.copy_(value)

    @contextlib.contextmanager
    def using(self, weights: Sequence[torch.Tensor]) -> Iterator[None]:
        """Draw and compute with other weights in the adapter; afterwards it has its own again, to the bit."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        self.set_weights(weights)
        try:
            yield
        finally:
            self.set_weights(own)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Draw and compute with the averaged weights."""
        return self.using(self.average)

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Draw and compute, without gradients, with what the learner must not leave: the base, or the anchor."""
        with torch.no_grad(), self.adapted.disable_adapter() if self.anchor is None else self.using(self.anchor):
            yield

    def update_average(self) -> None:
        """Move the average towards the learner, by `ema_decay`."""
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter.float(), 1 - self.config.ema_decay)

    def state(self) -> dict[str, torch.Tensor]:
        """All weights that a checkpoint keeps, by name."""
        kinds = {"learner": self.weights(), "average": self.average, "anchor": self.anchor or []}
        return {f"{kind}.{number}": value for kind, values in kinds.items() for number, value in enumerate(values)}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""

        def of_kind(kind: str) -> Weights:
            numbers = range(len(self.parameters))
            return [state[f"{kind}.{number}"].to(self.device) for number in numbers if f"{kind}.{number}" in state]

        self.set_weights(of_kind("learner"))
        self.average, self.anchor = of_kind("average"), of_kind("anchor") or None

    def save_adapter(self, folder: Path) -> None:
        """Write the averaged weights in peft's layout, which `generate.adapter` takes."""
        with self.averaged():
            self.adapted.save_pretrained(str(folder), save_embedding_layers=False)


def guided(prompted: torch.Tensor, unprompted: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocities [B, C, h, w] that a drawing follows, in float32: u + w (c - u)."""
    if conditioning.unprompted is None:
        return prompted.float()
    scales = conditioning.guidance.view(-1, 1, 1, 1)
    return unprompted.float() + scales * (prompted.float() - unprompted.float())
