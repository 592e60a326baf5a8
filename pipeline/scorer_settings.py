"""Which scorer of images: the settings that the stages have in common which judge pictures."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from ..base.settings import Settings
from ..engine.scorers.catalogue import IMAGE_SCORERS


class ScorerChoice(Settings):
    """A scorer by its name, with the checkpoint it takes."""

    scorer: str = Field(default="imagereward", description="imagereward, clip, blip, aesthetic, or one of your own")
    model: str = Field(default=IMAGE_SCORERS["imagereward"].checkpoint, description="by default the scorer's own")

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
        if scorer not in IMAGE_SCORERS:
            raise ValueError(f"there is no image scorer {scorer!r}: choose one of {', '.join(IMAGE_SCORERS)}")
        return scorer
