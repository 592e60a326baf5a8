"""Selections to instructions: what the responders will be asked about the image.

Three ways, tried in the configured order for each image: the input's own instructions, a text model that turns the
prompt into a question, or templates. The input and templates can give an image several instructions, each of which is
answered, judged and paired by itself. An image that none of the ways serves becomes a reject.

Instructions of training data often carry the marker `<image>`, which says where a model's input puts the image. Every
model here puts it there by its own template, so the marker is taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from ...base.settings import Settings, Text
from ...engine.responders.catalogue import load_responder
from ...engine.responders.settings import ModelChoice
from ...engine.settings import EngineSettings, Sampling
from ..declaration import Inputs, StageDeclaration
from ..image_marker import without_marker
from ..records import Instruction, Reject, Selection, content_id, seed_for
from ..sources import ChosenImage, DatasetSource, read_rows
from ..stage import Stage
from .prompts import STAGE as PROMPTS
from .select import STAGE as SELECT


class InstructConfig(Settings):
    """By default the input's field where there is one, else a template."""

    order: tuple[Literal["field", "model", "template"], ...] = Field(default=("field", "template"), min_length=1)
    templates: tuple[Text, ...] = Field(
        default=("Describe this image in detail.",), min_length=1, description="{prompt} and {topic} are filled in"
    )
    per_image: int = Field(default=1, ge=1, description="how many of the templates each image gets")
    model: str | None = Field(default=None, description="a text model, needed where `order` names it")
    sampling: Sampling = Sampling(max_new_tokens=64)
    batch_size: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _model_is_named(self) -> InstructConfig:
        if "model" in self.order and self.model is None:
            raise ValueError("order names a model, so instruct.model must name one")
        return self


class InstructStage(Stage[ChosenImage, Instruction]):
    """Write one instruction per selected image."""

    def __init__(self, config: InstructConfig, settings: EngineSettings) -> None:
        self.config = config
        self.writer = None
        for model in written_by(config):
            self.writer = load_responder(ModelChoice(model=model), settings)
            self.model_keys = (self.writer.key,)

    def compute(self, prepared: Sequence[ChosenImage]) -> list[Instruction | Reject]:
        """Write the instructions; the model sees all rows that reach it in one batch."""
        texts: dict[int, tuple[list[str], str]] = {}
        for way in self.config.order:
            open_rows = [row for row in range(len(prepared)) if row not in texts]
            written = self._write(way, [prepared[row] for row in open_rows])
            for row, found in zip(open_rows, written, strict=True):
                if useful := [text for text in map(_plain, found) if text.strip()]:
                    texts[row] = (useful, way)
        return [record for row, item in enumerate(prepared) for record in self._records(item, texts.get(row))]

    def _write(self, way: str, items: list[ChosenImage]) -> list[list[str]]:
        if way == "field":
            return [list(item.prompt.instructions) for item in items]
        if way == "template":
            return [self._fill(item) for item in items]
        assert self.writer is not None
        if not items:
            return []
        from ...engine.responders.instruction_writer import instruction_request
        from ...engine.responders.interface import Answer, Request

        requests = [
            Request(instruction_request(item.prompt.text), seed_for(item.selection.image_id, "instruction"))
            for item in items
        ]
        replies = self.writer.answer(requests, self.config.sampling)
        return [[reply.text] if isinstance(reply, Answer) else [] for reply in replies]

    def _fill(self, item: ChosenImage) -> list[str]:
        """Return the image's templates, filled: a draw without repetition that depends on the image alone."""
        image, templates = item.selection.image_id, set(self.config.templates)
        drawn = sorted(templates, key=lambda template: seed_for(image, "template", template))[: self.config.per_image]
        # replace, not format: a prompt may hold braces
        topic = item.prompt.topic or ""
        return [template.replace("{prompt}", item.prompt.text).replace("{topic}", topic) for template in drawn]

    def _records(self, item: ChosenImage, written: tuple[list[str], str] | None) -> list[Instruction | Reject]:
        image = item.selection.image_id
        if written is None:
            return [Reject(image, STAGE.name, "no_instruction", f"none of {', '.join(self.config.order)} gave a text")]
        texts, way = written
        return [Instruction(content_id("instruction", image, text), image, text, way) for text in texts]


def _plain(text: str) -> str:
    return without_marker(text) if "<image>" in text else text  # any other text keeps its bytes


def written_by(config: InstructConfig) -> tuple[str, ...]:
    """Return the text model that writes instructions, if one is asked to."""
    return (config.model,) if config.model is not None and "model" in config.order else ()


def chosen_images(inputs: Inputs) -> DatasetSource[ChosenImage]:
    """Return the selections with their prompts."""
    prompts = inputs.rows(PROMPTS)
    places = prompts.rows_by("id")

    def join(selections: list[Selection]) -> list[ChosenImage]:
        read = read_rows(prompts, (places[selection.prompt_id] for selection in selections))
        return [ChosenImage(selection, read[places[selection.prompt_id]]) for selection in selections]

    return DatasetSource(inputs.rows(SELECT), key="image_id", join_all=join)


STAGE = StageDeclaration(
    name="instructions",
    output=Instruction,
    setting="instruct",
    reads=(PROMPTS, SELECT),
    source=chosen_images,
    build=InstructStage,
    unit="images",
    checkpoints=written_by,
)
