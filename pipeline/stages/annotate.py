"""Candidates to annotations: what one of several annotators says of every image, aspect by aspect."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ...engine.images import UnreadableImage, decode_image
from ...engine.responders.catalogue import backend_of
from ...engine.responders.settings import INDEPENDENT
from ...engine.settings import EngineSettings
from ..annotating.images import ImagesByPrompt, PromptImages
from ..annotating.rubrics import rubrics_digest
from ..annotating.settings import AnnotatorChoice
from ..declaration import StageDeclaration
from ..records import Annotation, Prompt, Reject
from .asking import AskingStage
from .generate import GENERATORS
from .prompts import STAGE as PROMPTS

Decoded = tuple[Prompt, dict[str, Image.Image]]


class AnnotateStage(AskingStage[PromptImages, Annotation]):
    """Ask an annotator about the images of prompts."""

    def __init__(self, choice: AnnotatorChoice, settings: EngineSettings) -> None:
        self.choice, self.stage = choice, f"{STAGE.name}-{choice.name}"
        self.load(choice, settings)

    def prepare(self, inputs: Sequence[PromptImages]) -> tuple[list[Decoded], list[Reject]]:
        """Decode the images; what cannot be shown is a reject."""
        seen: list[Decoded] = []
        rejects: list[Reject] = []
        for item in inputs:
            images: dict[str, Image.Image] = {}
            for identity, data in item.images.items():
                if item.prompt is None:
                    rejects.append(Reject(identity, self.stage, "no_prompt", "imported without a prompt to rate it by"))
                    continue
                try:
                    images[identity] = decode_image(data)
                except UnreadableImage as error:
                    rejects.append(Reject(identity, self.stage, f"image_{error.reason}", error.message))
            if item.prompt is not None and not item.images:
                rejects.append(Reject(item.prompt.id, self.stage, "no_image", "this prompt has no candidate"))
            if item.prompt is not None and images:
                seen.append((item.prompt, images))
        return seen, rejects

    def compute(self, prepared: tuple[list[Decoded], list[Reject]]) -> list[Annotation | Reject]:
        """Have every image rated that can be seen."""
        from ..annotating.asking import SeenPrompt, annotate

        seen, rejects = prepared
        assert self.engine is not None
        rows, replies = annotate(self.engine, [SeenPrompt(*one) for one in seen], self.choice, self.stage)
        self.count(replies)
        return [*rejects, *rows]


def _runtime(choice: AnnotatorChoice) -> str:
    """Return what runs the model, and a digest of what it is told that levels mean."""
    return f"{backend_of(choice).runtime(choice)} rubrics-{rubrics_digest(choice.texts.values())}".strip()


STAGE = StageDeclaration(
    name="annotations",
    output=Annotation,
    setting="annotators",
    reads=(PROMPTS, GENERATORS),
    source=lambda inputs: ImagesByPrompt(inputs, PROMPTS, GENERATORS),
    build=AnnotateStage,
    unit="prompts",
    checkpoints=lambda choice: (choice.model,) if backend_of(choice).loads_weights else (),
    runtime=_runtime,
    independent=INDEPENDENT,
    remedy="name them in the recipe's `annotators`",
)
