"""Prompts to candidates: several images of each prompt at different guidance scales (PDS-DPO, section 3.1).

The published seeds are `index * 1000 + k`, so a prompt's candidates differ in guidance and in noise, and a prompt that
moves to another line gets other candidates; seeds from its id do not move with it. The same-seed mode gives all of
them one noise, which is what a study of guidance needs. Every candidate keeps its seed and noise specification: that
is enough to draw it again, and to know its own prior noise in later training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ...base.settings import Settings
from ...engine.images import encode_image
from ...engine.settings import EngineSettings
from ..declaration import StageDeclaration
from ..records import Candidate, Prompt, Reject, content_id, seed_for
from ..sources import DatasetSource, PromptedImage
from ..stage import Stage
from .prompts import STAGE as PROMPTS

if TYPE_CHECKING:
    import torch


class GenerateConfig(Settings):
    """The paper's settings by default."""

    model: str = "stabilityai/stable-diffusion-3-medium-diffusers"
    adapter: str | None = Field(default=None, description="folder of a LoRA of its transformer, in peft's layout")
    guidance: tuple[float, ...] = Field(default=(5.0, 7.0, 9.0, 11.0), min_length=1, description="one candidate each")
    seeds: Literal["paper", "same", "id"] = Field(
        default="paper",
        description="paper: index * 1000 + k, so a prompt on another line gives other images with other ids; "
        "same: index * 1000 + 1 for all of a prompt; id: from the prompt's id, the same on every line",
    )
    steps: int = Field(default=28, ge=1, le=1000)
    width: int | None = Field(default=None, ge=16, le=16_384, description="pixels; by default the model's own size")
    height: int | None = Field(default=None, ge=16, le=16_384)
    t5_tokens: int = Field(default=256, ge=0, description="text length of T5; 0 for a checkpoint trained without any")
    format: Literal["png", "webp", "jpeg"] = Field(default="png", description="png and webp are lossless")
    batch_size: int = Field(default=2, ge=1, description="prompts at a time; each brings one image per guidance scale")


@dataclass(frozen=True)
class _Drawn:
    identity: str
    prompt: Prompt
    seed: int
    guidance: float
    image: torch.Tensor  # uint8 [H, W, 3], where it was drawn
    pixels: np.ndarray  # the same on the host
    failure: str | None


class GenerateStage(Stage[Prompt, Candidate]):
    """Draw every candidate of a batch of prompts in one batch of images."""

    def __init__(self, config: GenerateConfig, settings: EngineSettings) -> None:
        from ...engine.sd3.text_to_image import TextToImage

        self.config = config
        self.engine = TextToImage.from_pretrained(
            config.model,
            settings,
            t5_tokens=config.t5_tokens,
            adapter=Path(config.adapter).expanduser() if config.adapter else None,
        )
        self.model_keys = (self.engine.key,)
        self.width = config.width or self.engine.default_size
        self.height = config.height or self.engine.default_size

    def compute(self, prepared: Sequence[Prompt]) -> list[_Drawn]:
        """Draw the images; failures stay with their rows."""
        rows = [
            (prompt, self._seed(prompt, number), guidance)
            for prompt in prepared
            for number, guidance in enumerate(self.config.guidance, start=1)
        ]
        drawn = self.engine.generate(
            [prompt.text for prompt, _, _ in rows],
            [guidance for _, _, guidance in rows],
            [seed for _, seed, _ in rows],
            steps=self.config.steps,
            width=self.width,
            height=self.height,
        )
        images = drawn.images.cpu().numpy()
        return [
            _Drawn(self._identity(*row), *row, image, pixels, failure)
            for row, image, pixels, failure in zip(rows, drawn.images, images, drawn.failures, strict=True)
        ]

    def hand_on(self, computed: list[_Drawn]) -> list[tuple[str, PromptedImage]]:
        """The images as they were drawn, on their device, for a scorer."""
        return [
            (drawn.identity, PromptedImage(drawn.identity, drawn.image, drawn.prompt.text))
            for drawn in computed
            if not drawn.failure
        ]

    def finish(self, computed: list[_Drawn]) -> list[Candidate | Reject]:
        """Encode the images: host work, off the device's path."""
        return [self._record(drawn) for drawn in computed]

    def _record(self, drawn: _Drawn) -> Candidate | Reject:
        if drawn.failure:
            detail = f"prompt {drawn.prompt.source}, guidance {drawn.guidance}, seed {drawn.seed}"
            return Reject(drawn.identity, STAGE.name, f"{drawn.failure}_image", detail)
        return Candidate(
            drawn.identity,
            drawn.prompt.id,
            self.width,
            self.height,
            encode_image(drawn.pixels, self.config.format),
            self.engine.key,
            source=drawn.prompt.source,
            seed=drawn.seed,
            guidance=drawn.guidance,
            steps=self.config.steps,
            noise=self.engine.noise_specification,
        )

    def _identity(self, prompt: Prompt, seed: int, guidance: float) -> str:
        size = (self.config.steps, self.width, self.height)
        return content_id("candidate", prompt.id, self.engine.key, seed, guidance, *size)

    def _seed(self, prompt: Prompt, number: int) -> int:
        if self.config.seeds == "id":
            return seed_for(prompt.id, number)
        return prompt.index * 1000 + (number if self.config.seeds == "paper" else 1)


STAGE = StageDeclaration(
    name="candidates",
    output=Candidate,
    setting="generate",
    reads=(PROMPTS,),
    source=lambda inputs: DatasetSource(inputs.rows(PROMPTS)),
    build=GenerateStage,
    unit="prompts",
    fan_out=lambda settings: len(settings.guidance),
    checkpoints=lambda settings: (settings.model,),
    hands_on=lambda settings: settings.format != "jpeg",  # only a lossless file is the image that was drawn
    remedy="give generate.model, or import images with `prefmill import --images`",
)
