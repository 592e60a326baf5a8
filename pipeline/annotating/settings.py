"""Who rates images, how they are asked, and how their ratings become preferences."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ...base.settings import Settings, Text, Weight
from ...engine.responders.image_ratings import ASPECTS, Aspect
from ...engine.responders.settings import ModelChoice, VllmSettings
from ...engine.settings import Sampling
from .rubrics import RUBRICS

OVERALL = "overall"


class AnnotatorChoice(ModelChoice):
    """One annotator: a chat model that sees all images of a prompt and rates each, aspect by aspect."""

    BATCH_SIZES: ClassVar = {
        **{"transformers": 8, "vllm": 32, "openai": 32, "anthropic": 32},
        **{"openai_batch": 128, "anthropic_batch": 128},
    }

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="names the folder of its ratings")
    aspects: tuple[Aspect, ...] = Field(default=ASPECTS, min_length=1, description="asked about, one request each")
    together: bool = Field(default=False, description="ask about all aspects in one request: cheaper, and less apart")
    presentations: Literal[1, 2] = Field(
        default=1, description="2: every request a second time, the order of the images reversed, for consistency"
    )
    seed: int = Field(default=0, ge=0, description="of the order in which images are shown, with their prompt's id")
    rubrics: dict[Aspect, Text] = Field(default={}, description="what 1 to 5 mean, by aspect, instead of our texts")
    sampling: Sampling = Sampling(max_new_tokens=1500)
    batch_size: int = Field(
        default=8, ge=1, description="prompts at a time, each with all its images; by default what suits the backend"
    )
    vllm: VllmSettings = VllmSettings(images=16)

    @field_validator("aspects")
    @classmethod
    def _are_different(cls, aspects: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(aspects)) < len(aspects):
            raise ValueError("an aspect is named twice")
        return aspects

    @property
    def texts(self) -> dict[str, str]:
        """The rubrics by the aspects that are asked about."""
        return {aspect: self.rubrics.get(aspect) or RUBRICS[aspect] for aspect in self.aspects}

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The aspects, request by request."""
        return (self.aspects,) if self.together else tuple((aspect,) for aspect in self.aspects)

    @property
    def requests(self) -> int:
        """How often it is asked about one prompt."""
        return len(self.groups) * self.presentations


class PreferConfig(Settings):
    """How ratings become preferences. Formula and defaults are ours: the paper's are not published."""

    by: tuple[Aspect | Literal["overall"], ...] = Field(
        default=(OVERALL, *ASPECTS), min_length=1, description="what images are compared by: aspects, and overall"
    )
    weights: dict[Aspect, Weight] = Field(
        default=dict.fromkeys(ASPECTS, 1.0), description="of the aspects in overall, which is their weighted mean"
    )
    annotators: dict[str, Weight] = Field(
        default={}, description="how much each annotator counts, by name; one that is not named counts 1"
    )
    tie_band: float = Field(
        default=0.0, ge=0, description="images whose ratings differ by no more than this are a tie, and no preference"
    )
    minimum_aspects: int = Field(
        default=1, ge=1, le=len(ASPECTS), description="aspects rated of both images, for overall to compare them"
    )

    @model_validator(mode="after")
    def _weighs(self) -> PreferConfig:
        for name, weights in (("weights", self.weights), ("annotators", self.annotators)):
            if any(weight < 0 for weight in weights.values()):
                raise ValueError(f"{name} are 0 or more")
        counted = sum(weight > 0 for weight in self.weights.values())
        if OVERALL in self.by and counted < self.minimum_aspects:
            raise ValueError(f"overall needs {self.minimum_aspects} aspects, and {counted} have a weight above 0")
        return self
