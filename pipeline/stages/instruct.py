"""Selections to instructions: what the responders will be asked about the image.

Four ways, tried in the configured order for each image: the input's own instructions, a text model that turns the
prompt into questions, the built-in writer that puts what the prompt names into forms, or templates. Each of several
instructions is answered, judged and paired by itself. Where a way brings nothing the next is taken, which is counted
and said; an image that none of them serves becomes a reject. So does every line of a model that cannot be used.

Instructions of training data, and of models that read some, often carry the marker `<image>`, which says where a
model's input puts the image. Every model here puts it there by its own template, so the marker is taken out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from ...base.settings import Text
from ...engine.responders.catalogue import backend_of
from ...engine.responders.settings import INDEPENDENT, ModelChoice
from ...engine.settings import EngineSettings, Sampling
from ..declaration import Inputs, StageDeclaration
from ..image_marker import without_marker
from ..records import Instruction, Reject, Selection, content_id, seed_for
from ..sources import ChosenImage, DatasetSource, read_rows
from ..writing.questions import KINDS, QUESTION_READER, REQUEST, Questions
from ..writing.wording import Wording
from .asking import AskingStage
from .prompts import STAGE as PROMPTS
from .select import STAGE as SELECT

Way = Literal["field", "model", "grammar", "template"]


class InstructConfig(ModelChoice):
    """By default the input's field where there is one, else a template."""

    order: tuple[Way, ...] = Field(
        default=("field", "template"), min_length=1, description="of field, model, grammar and template"
    )
    templates: tuple[Text, ...] = Field(
        default=("Describe this image in detail.",), min_length=1, description="{prompt} and {topic} are filled in"
    )
    per_image: int = Field(default=1, ge=1, description="instructions each image gets, where it brings none of its own")
    model: str = Field(default="", description="a text model, needed where `order` names it")
    sampling: Sampling = Sampling(max_new_tokens=256)
    wording: str | None = Field(
        default=None, description="a folder with a request and kinds of questions of one's own (prefmill write wording)"
    )

    @model_validator(mode="after")
    def _model_is_named(self) -> InstructConfig:
        if "model" in self.order and not self.model:
            raise ValueError("order names a model, so instruct.model must name one")
        return self


class InstructStage(AskingStage[ChosenImage, Instruction]):
    """Write the instructions of selected images."""

    def __init__(self, config: InstructConfig, settings: EngineSettings) -> None:
        self.config = config
        self.questions = Questions(Wording(config.wording)) if _is_worded(config) else None
        self.passed_on: Counter[tuple[str, str]] = Counter()
        self.short = 0
        if "model" in config.order:
            self.load(config, settings)

    @property
    def outcome(self) -> tuple[str, ...]:
        """How many images a way left to the next one, and how many got fewer instructions than were asked."""
        passed = [
            f"{count} images got nothing by {way}: by {then} instead" for (way, then), count in self.passed_on.items()
        ]
        few = f"{self.short} images got fewer than {self.config.per_image} instructions from the model"
        return (*super().outcome, *passed, *([few] if self.short else []))

    def compute(self, prepared: Sequence[ChosenImage]) -> list[Instruction | Reject]:
        """Write the instructions; the model sees all rows that reach it in one batch."""
        texts: dict[int, tuple[list[str], Way]] = {}
        refused: dict[int, list[Reject]] = {}
        for way, then in zip(self.config.order, (*self.config.order[1:], None), strict=True):
            open_rows = [row for row in range(len(prepared)) if row not in texts]
            written = self._write(way, [prepared[row] for row in open_rows], refused, open_rows)
            for row, found in zip(open_rows, written, strict=True):
                if useful := list(dict.fromkeys(text for text in map(_plain, found) if text.strip())):
                    texts[row] = (useful, way)
                elif then is not None and way == "model":
                    self.passed_on[way, then] += 1
        return [
            record
            for row, item in enumerate(prepared)
            for record in (*self._records(item, texts.get(row)), *refused.get(row, ()))
        ]

    def _write(
        self, way: Way, items: list[ChosenImage], refused: dict[int, list[Reject]], rows: list[int]
    ) -> list[list[str]]:
        count = self.config.per_image
        if way == "field":
            return [list(item.prompt.instructions) for item in items]
        if way == "template":
            return [self._fill(item) for item in items]
        if way == "grammar":
            assert self.questions is not None
            return [self.questions.write(item.selection.image_id, item.prompt.text, count) for item in items]
        written = []
        for row, (texts, rejects) in zip(rows, self._ask(items), strict=True):
            refused[row] = rejects
            self.short += 0 < len(texts) < count
            written.append(texts)
        return written

    def _ask(self, items: list[ChosenImage]) -> list[tuple[list[str], list[Reject]]]:
        """Return the model's questions about each image, and what it wrote that is none."""
        if not items:
            return []
        from ...engine.responders.interface import Failure, Request

        assert self.engine is not None
        assert self.questions is not None
        requests = []
        for item in items:
            image, prompt = item.selection.image_id, item.prompt
            text = self.questions.request_for(image, prompt.text, prompt.topic or "", self.config.per_image)
            name = content_id("instruct", image, self.engine.key, text, self.config.sampling.model_dump_json())
            requests.append(Request(text, seed_for(image, "instruction"), (), name))
        replies = self.engine.answer(requests, self.config.sampling)
        self.count(replies)
        asked = []
        for item, request, reply in zip(items, requests, replies, strict=True):
            if isinstance(reply, Failure):
                asked.append(([], [Reject(request.name, STAGE.name, reply.reason, reply.detail)]))
                continue
            reading = QUESTION_READER.read(reply.text, item.prompt.text, cut=reply.finish_reason == "length")
            for text in reading.texts[self.config.per_image :]:
                reading.refuse("surplus", text)
            rejects = [Reject(request.name, STAGE.name, one.reason, one.line) for one in reading.refused]
            asked.append((reading.texts[: self.config.per_image], rejects))
        return asked

    def _fill(self, item: ChosenImage) -> list[str]:
        """Return the image's templates, filled: a draw without repetition that depends on the image alone."""
        image, templates = item.selection.image_id, set(self.config.templates)
        drawn = sorted(templates, key=lambda template: seed_for(image, "template", template))[: self.config.per_image]
        # replace, not format: a prompt may hold braces
        topic = item.prompt.topic or ""
        return [template.replace("{prompt}", item.prompt.text).replace("{topic}", topic) for template in drawn]

    def _records(self, item: ChosenImage, written: tuple[list[str], Way] | None) -> list[Instruction | Reject]:
        image = item.selection.image_id
        if written is None:
            return [Reject(image, STAGE.name, "no_instruction", f"none of {', '.join(self.config.order)} gave a text")]
        texts, way = written
        return [Instruction(content_id("instruction", image, text), image, text, way) for text in texts]


def _plain(text: str) -> str:
    return without_marker(text) if "<image>" in text else text  # any other text keeps its bytes


def _is_worded(config: InstructConfig) -> bool:
    return "model" in config.order or "grammar" in config.order


def _checkpoints(config: InstructConfig) -> tuple[str, ...]:
    """Return the text model that writes instructions, if one is asked to and is loaded here."""
    return (config.model,) if "model" in config.order and backend_of(config).loads_weights else ()


def _runtime(config: InstructConfig) -> str:
    """Return what the texts depend on beside the settings: what runs the model, and what the wording says."""
    parts = [backend_of(config).runtime(config)] if "model" in config.order else []
    parts += [f"wording-{Wording(config.wording).digest(REQUEST, KINDS)}"] if _is_worded(config) else []
    return " ".join(parts)


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
    checkpoints=_checkpoints,
    runtime=_runtime,
    independent=INDEPENDENT | {"wording"},
)
