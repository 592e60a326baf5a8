"""VisionPrefer's loop (arXiv 2404.15100): images of several generators, rated by chat models, become preferences."""

from __future__ import annotations

from typing import ClassVar

from pydantic import model_validator

from .annotating.settings import AnnotatorChoice, PreferConfig
from .declaration import StageDeclaration
from .generate_settings import GeneratorConfig
from .loop import Loop
from .prompts import PromptsConfig
from .stages.annotate import STAGE as ANNOTATE
from .stages.generate import GENERATORS
from .stages.prefer import STAGE as PREFER
from .stages.prompts import STAGE as PROMPTS


class VisionPreferLoop(Loop):
    """Everything that decides a run's image preferences."""

    STAGES: ClassVar[tuple[StageDeclaration, ...]] = (PROMPTS, GENERATORS, ANNOTATE, PREFER)

    prompts: PromptsConfig = PromptsConfig()
    generators: tuple[GeneratorConfig, ...] = ()
    annotators: tuple[AnnotatorChoice, ...] = ()
    prefer: PreferConfig = PreferConfig()

    @model_validator(mode="after")
    def _weighed_annotators_are_there(self) -> VisionPreferLoop:
        names = [choice.name for choice in self.annotators]
        if unknown := sorted(set(self.prefer.annotators) - set(names)):
            raise ValueError(f"prefer.annotators weighs {unknown[0]}, and annotators are {', '.join(names) or 'none'}")
        return self
