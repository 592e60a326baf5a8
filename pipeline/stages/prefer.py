"""Annotations to image preferences: of every two images of a prompt the better one, by each aspect and overall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..annotating.aggregation import preferences
from ..annotating.ratings import RatedPrompt, RatedPrompts
from ..annotating.settings import PreferConfig
from ..annotating.statistics import statistics_of
from ..declaration import Inputs, StageDeclaration
from ..records import ImagePreference, Reject
from ..stage import Stage
from .annotate import STAGE as ANNOTATE
from .prompts import STAGE as PROMPTS


class PreferStage(Stage[RatedPrompt, ImagePreference]):
    """Compare the images of each prompt."""

    def __init__(self, config: PreferConfig) -> None:
        self.config = config

    def compute(self, prepared: Sequence[RatedPrompt]) -> list[ImagePreference | Reject]:
        """Compare prompt by prompt."""
        return [row for rated in prepared for row in preferences(rated, self.config, STAGE.name)]


def rated_prompts(inputs: Inputs) -> RatedPrompts:
    """Return the prompts with all ratings."""
    return RatedPrompts(inputs, PROMPTS, ANNOTATE)


def measured(inputs: Inputs) -> dict[str, Any]:
    """Return what there is to know of the annotators and their ratings."""
    return statistics_of(inputs.run, rated_prompts(inputs), inputs.settings)


STAGE = StageDeclaration(
    name="image_preferences",
    output=ImagePreference,
    setting="prefer",
    reads=(PROMPTS, ANNOTATE),
    source=rated_prompts,
    build=lambda settings, engine: PreferStage(settings),
    unit="prompts",
    measure=measured,
)
