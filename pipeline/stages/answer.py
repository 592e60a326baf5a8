"""Instructions to responses: one responder's answers. Each responder is a stage of its own, so that one model is
loaded at a time and a responder can be added to a run later."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from pydantic import Field

from ...engine.images import UnreadableImage, decode_image
from ...engine.responders.catalogue import backend_of
from ...engine.responders.settings import INDEPENDENT, ModelChoice
from ...engine.settings import EngineSettings, Sampling
from ..declaration import Inputs, StageDeclaration
from ..records import Instruction, Reject, Response, content_id, seed_for
from ..sources import DatasetSource, ImageQuestion, read_rows, responses_folder
from .asking import AskingStage
from .generate import STAGE as GENERATE
from .instruct import STAGE as INSTRUCT


class ResponderConfig(ModelChoice):
    """One responder: a name that is unique in the run, a model, and how it samples."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="names the folder of its answers")
    sampling: Sampling = Sampling()


class AnswerStage(AskingStage[ImageQuestion, Response]):
    """Answer a batch of questions. The seed of a row depends on its instruction and the responder alone."""

    def __init__(self, config: ResponderConfig, settings: EngineSettings) -> None:
        self.config, self.stage = config, responses_folder(config.name)
        self.load(config, settings)

    def prepare(self, inputs: Sequence[ImageQuestion]) -> list[tuple[Instruction, Image.Image | Reject]]:
        """Decode the images."""
        return [(item.instruction, self._decode(item)) for item in inputs]

    def _decode(self, item: ImageQuestion) -> Image.Image | Reject:
        try:
            return decode_image(item.image)
        except UnreadableImage as error:
            return Reject(item.instruction.id, self.stage, f"image_{error.reason}", error.message)

    def compute(self, prepared: list[tuple[Instruction, Image.Image | Reject]]) -> list[Response | Reject]:
        """Answer what could be decoded; an empty answer is a reject with its reason, never an empty string."""
        outcome: list[Response | Reject] = [image for _, image in prepared if isinstance(image, Reject)]
        asked = [(instruction, image) for instruction, image in prepared if not isinstance(image, Reject)]
        if not asked:
            return outcome
        from ...engine.responders.interface import Failure, Request

        assert self.engine is not None
        requests = []
        for instruction, image in asked:
            seed = seed_for(instruction.id, self.config.name)
            name = content_id("response", instruction.id, self.engine.key, seed)
            requests.append(Request(instruction.text, seed, (image,), name))
        answers = self.engine.answer(requests, self.config.sampling)
        self.count(answers)
        for (instruction, _), request, answer in zip(asked, requests, answers, strict=True):
            identity = request.name
            if isinstance(answer, Failure):
                outcome.append(Reject(identity, self.stage, answer.reason, answer.detail))
                continue
            if not answer.text.strip():
                outcome.append(Reject(identity, self.stage, "empty", f"ended after {answer.tokens} tokens"))
                continue
            outcome.append(
                Response(
                    identity,
                    instruction.image_id,
                    instruction.id,
                    self.engine.key,
                    answer.text,
                    answer.finish_reason,
                    answer.tokens,
                    request.seed,
                )
            )
        return outcome


def questions(inputs: Inputs) -> DatasetSource[ImageQuestion]:
    """Return the instructions with their images; an image that a batch asks about more than once is read once."""
    candidates = inputs.rows(GENERATE)
    places = candidates.rows_by("id")

    def join(instructions: list[Instruction]) -> list[ImageQuestion]:
        read = read_rows(candidates, (places[instruction.image_id] for instruction in instructions))
        return [ImageQuestion(instruction, read[places[instruction.image_id]].image) for instruction in instructions]

    return DatasetSource(inputs.rows(INSTRUCT), join_all=join)


STAGE = StageDeclaration(
    name="responses",
    output=Response,
    setting="responders",
    reads=(GENERATE, INSTRUCT),
    source=questions,
    build=AnswerStage,
    unit="answers",
    checkpoints=lambda settings: (settings.model,) if backend_of(settings).loads_weights else (),
    runtime=lambda settings: backend_of(settings).runtime(settings),
    independent=INDEPENDENT,
    remedy="name them in the recipe's `responders`, or import answers with `prefmill import --answers`",
)
