"""The settings of drawing: what is drawn, how much at a time, and what may be left out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ..base.settings import Settings, Weight
from ..engine.scorers.choice import ScorerChoice
from ..engine.sd3.levers import Levers


class PruneConfig(Settings):
    """Finish only the candidates of a prompt whose predicted image scores best after some steps."""

    after: int = Field(ge=1, description="look after this many steps")
    keep: int = Field(default=1, ge=1, description="how many candidates of a prompt are finished")
    scorer: str | None = Field(default=None, description="as in `score`; null: the scorer that `score` names")
    model: str | None = Field(default=None, description="its checkpoint; null: that of `score`, or the scorer's own")
    mixture: dict[str, Weight] = Field(default={}, description="as in `score`, with `models`")
    models: dict[str, str] = Field(default={})

    @model_validator(mode="after")
    def _is_a_choice(self) -> PruneConfig:
        self.choice(ScorerChoice())
        return self

    def choice(self, score: ScorerChoice) -> ScorerChoice:
        """Return the scorer, or scorers, that look: what `score` names where nothing is named here."""
        if self.mixture:
            named = {"mixture": self.mixture, "models": self.models}
            return ScorerChoice.model_validate(
                named | {name: value for name in ("scorer", "model") if (value := getattr(self, name)) is not None}
            )
        if self.scorer is not None:
            own = ScorerChoice(scorer=self.scorer)
        else:
            own = ScorerChoice(**{name: getattr(score, name) for name in ScorerChoice.model_fields})
        return own.model_copy(update={"model": self.model or own.model})

    def resolved(self, score: ScorerChoice) -> PruneConfig:
        """Return the same with everything named."""
        return self.model_copy(update=self.choice(score).model_dump())


class GenerateConfig(Settings):
    """The paper's settings by default. `levers` and `prune` cost less and change the images."""

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
    t5: Literal["device", "host"] = Field(
        default="device",
        description="where T5's weights rest (9.5 GB); from the host they visit the device once a batch. The images "
        "are the same",
    )
    format: Literal["png", "webp", "jpeg"] = Field(default="png", description="png and webp are lossless")
    batch_size: int | Literal["auto"] = Field(
        default=2,
        description="prompts at a time; each brings one image per guidance scale. auto: as many as the memory that is "
        "free when a run begins will hold; the number is kept in run.yaml",
    )
    decode_batch: int | None = Field(
        default=None,
        ge=1,
        description="images that the autoencoder decodes at a time, whose memory it bounds; by default all of a batch",
    )
    levers: Levers = Levers()
    prune: PruneConfig | None = Field(default=None, description="best-of-N with an early look, e.g. {after: 14}")

    @field_validator("batch_size")
    @classmethod
    def _is_a_batch(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("batch_size is at least 1, or auto")
        return value

    @model_validator(mode="after")
    def _prunes_something(self) -> GenerateConfig:
        if self.prune is not None and self.prune.after >= self.steps:
            raise ValueError(f"prune.after must come before the last of {self.steps} steps")
        if self.prune is not None and self.prune.keep >= len(self.guidance):
            raise ValueError(f"prune.keep must be less than the {len(self.guidance)} candidates of a prompt")
        return self

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """What it loads: the generator, and the scorer that prunes."""
        return (self.model, *(self.prune.choice(ScorerChoice()).sources.values() if self.prune else ()))

    @property
    def candidates(self) -> int:
        """How many images of a prompt are finished."""
        return self.prune.keep if self.prune else len(self.guidance)

    @property
    def approximations(self) -> tuple[str, ...]:
        """What an image was made with besides the plain settings: part of its id, and empty by default."""
        return tuple(f"{name}={value}" for name, value in sorted(self.levers.named.items()))

    def scored_by(self, score: ScorerChoice) -> GenerateConfig:
        """The same with the scorer of pruning named."""
        return self if self.prune is None else self.model_copy(update={"prune": self.prune.resolved(score)})


class GeneratorConfig(GenerateConfig):
    """One of several generators."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="names the folder of its images")

    @field_validator("batch_size")
    @classmethod
    def _is_a_number(cls, value: int | str) -> int | str:
        if value == "auto":
            raise ValueError("auto is for one generator: give a number")
        return value
