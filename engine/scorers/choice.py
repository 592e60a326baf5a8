"""Which scorer of images: the settings that everything has in common which judges pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from ...base.settings import Settings, Weight
from ..settings import EngineSettings
from .catalogue import IMAGE_SCORERS, load_image_scorer, load_mixture

if TYPE_CHECKING:
    from .interface import ImageScorer


class ScorerChoice(Settings):
    """A scorer by its name, with the checkpoint it takes; or several of them, with their weights."""

    scorer: str = Field(
        default="imagereward", description="imagereward, clip, blip, pickscore, hpsv2, aesthetic, or one of your own"
    )
    model: str = Field(default=IMAGE_SCORERS["imagereward"].checkpoint, description="by default the scorer's own")
    mixture: dict[str, Weight] = Field(
        default={},
        description="in place of one: scorers with the weights of their raw scores, e.g. {imagereward: 1, clip: 30}",
    )
    models: dict[str, str] = Field(
        default={},
        description="checkpoints of a mixture's scorers, by name; by default `model` for the one that `scorer` names, "
        "and their own for the others",
    )

    @model_validator(mode="before")
    @classmethod
    def _scorers_own_checkpoint(cls, values: Any) -> Any:
        """Take the named scorer's checkpoint where none, or that of the default scorer, is given."""
        if not isinstance(values, dict) or values.get("scorer") not in IMAGE_SCORERS:
            return values
        if values.get("model", IMAGE_SCORERS["imagereward"].checkpoint) != IMAGE_SCORERS["imagereward"].checkpoint:
            return values
        return {**values, "model": IMAGE_SCORERS[values["scorer"]].checkpoint}

    @field_validator("scorer")
    @classmethod
    def _is_known(cls, scorer: str) -> str:
        _check_known(scorer)
        return scorer

    @field_validator("mixture")
    @classmethod
    def _are_known(cls, mixture: dict[str, float]) -> dict[str, float]:
        for scorer in mixture:
            _check_known(scorer)
        if mixture and not any(mixture.values()):
            raise ValueError("all weights are 0: give one that counts")
        return mixture

    @model_validator(mode="after")
    def _models_are_of_the_mixture(self) -> ScorerChoice:
        if foreign := sorted(self.models.keys() - self.mixture.keys()):
            raise ValueError(f"models names {foreign[0]!r}, which is not in the mixture")
        if self.mixture and (lacking := [name for name, source in self.sources.items() if not source]):
            raise ValueError(f"the scorer {lacking[0]!r} has no published folder: name one as models.{lacking[0]}")
        return self

    @property
    def sources(self) -> dict[str, str]:
        """The checkpoint of every scorer that takes part."""
        own = {self.scorer: self.model}
        return {
            name: self.models.get(name) or own.get(name) or IMAGE_SCORERS[name].checkpoint
            for name in self.mixture or own
        }

    def load(self, settings: EngineSettings) -> ImageScorer:
        """Load it, or all of them. Raises PrefmillError for whatever does not load."""
        if self.mixture:
            return load_mixture(self.mixture, self.sources, settings)
        return load_image_scorer(self.scorer, self.model, settings)


def _check_known(scorer: str) -> None:
    if scorer not in IMAGE_SCORERS:
        raise ValueError(f"there is no image scorer {scorer!r}: choose one of {', '.join(IMAGE_SCORERS)}")
