"""Responses to judgements: what each of several judges says, in rows of its own. `response_scores` mixes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from PIL import Image

from ...engine.images import UnreadableImage, decode_image
from ...engine.responders.catalogue import backend_of
from ...engine.responders.settings import INDEPENDENT
from ...engine.settings import EngineSettings
from ..declaration import Inputs, StageDeclaration
from ..judging.reading import read_panels
from ..judging.reward import reward_scores
from ..judging.settings import JudgeChoice
from ..panels import PanelSource, PanelStages
from ..records import Judgement, Reject, Score
from ..sources import Panel, read_rows
from ..stage import Stage
from .answer import STAGE as ANSWER
from .asking import AskingStage
from .generate import STAGE as GENERATE
from .instruct import STAGE as INSTRUCT
from .prompts import STAGE as PROMPTS

PANELS = PanelStages(PROMPTS, GENERATE, INSTRUCT, ANSWER)


@dataclass(frozen=True)
class PanelWithImage:
    """A panel and its image's file; a judge that reads texts alone gets none."""

    panel: Panel
    image: bytes | None


class RewardJudgementStage(Stage[PanelWithImage, Judgement]):
    """What a text reward says of answers."""

    def __init__(self, choice: JudgeChoice, settings: EngineSettings) -> None:
        from ...engine.scorers.text_reward import TextReward

        self.choice, self.stage = choice, f"{STAGE.name}-{choice.name}"
        self.engine = TextReward.from_pretrained(choice.model, settings)
        self.model_keys = (self.engine.key,)

    def compute(self, prepared: Sequence[PanelWithImage]) -> list[Judgement | Reject]:
        """Score every answer that says something."""
        panels = [item.panel for item in prepared]
        readings, rejects = read_panels(panels, self.stage, with_prompts=self.choice.context == "prompt")
        scores = reward_scores(self.engine, readings, self.choice.weights, self.stage)
        return [*rejects, *(_as_judgement(row) if isinstance(row, Score) else row for row in scores)]


class ModelJudgementStage(AskingStage[PanelWithImage, Judgement]):
    """What a chat model that sees the image says of answers."""

    def __init__(self, choice: JudgeChoice, settings: EngineSettings) -> None:
        self.choice, self.stage = choice, f"{STAGE.name}-{choice.name}"
        self.load(choice, settings)

    def prepare(self, inputs: Sequence[PanelWithImage]) -> list[tuple[Panel, Image.Image | UnreadableImage]]:
        """Decode the images."""
        return [(item.panel, _decoded(item.image or b"")) for item in inputs]

    def compute(self, prepared: Sequence[tuple[Panel, Image.Image | UnreadableImage]]) -> list[Judgement | Reject]:
        """Have every answer judged that says something, about an image that can be seen."""
        from ..judging.verdicts import SeenPanel, compare, rate

        panels = [panel for panel, _ in prepared]
        readings, outcome = read_panels(panels, self.stage, with_prompts=self.choice.context == "prompt")
        found: list[Judgement | Reject] = [*outcome]
        seen = []
        for reading, (_, image) in zip(readings, prepared, strict=True):
            if isinstance(image, UnreadableImage):
                reason = f"image_{image.reason}"
                found += [Reject(one.response.id, self.stage, reason, image.message) for one in reading.answers]
            else:
                seen.append(SeenPanel(reading, image))
        assert self.engine is not None
        judge = rate if self.choice.kind == "rating" else compare
        judged, replies = judge(self.engine, seen, self.choice, self.stage)
        self.count(replies)
        return [*found, *judged]


class PanelsWithImages:
    """The panels of a run; an image that a batch asks about more than once is read once."""

    def __init__(self, inputs: Inputs) -> None:
        choice: JudgeChoice = inputs.settings
        self.panels = PanelSource(inputs.once(PANELS), with_prompts=choice.context == "prompt")
        self.images = None if choice.kind == "reward" else inputs.rows(GENERATE)

    def __len__(self) -> int:
        return len(self.panels)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range."""
        return self.panels.keys(start, stop)

    def read(self, start: int, stop: int) -> Sequence[PanelWithImage]:
        """Return a range."""
        panels = self.panels.read(start, stop)
        if self.images is None:
            return [PanelWithImage(panel, None) for panel in panels]
        places = self.images.rows_by("id")
        rows = [places.get(panel.instruction.image_id) for panel in panels]
        read = read_rows(self.images, (row for row in rows if row is not None))
        images = [None if row is None else read[row].image for row in rows]
        return [PanelWithImage(panel, image) for panel, image in zip(panels, images, strict=True)]


def _decoded(image: bytes) -> Image.Image | UnreadableImage:
    try:
        return decode_image(image)
    except UnreadableImage as error:
        return error


def _as_judgement(score: Score) -> Judgement:
    values = asdict(score)
    return Judgement(judge=values.pop("scorer"), **values)


def _build(choice: JudgeChoice, settings: EngineSettings) -> Stage[PanelWithImage, Judgement]:
    stage = RewardJudgementStage if choice.kind == "reward" else ModelJudgementStage
    return stage(choice, settings)


def _loads_weights(choice: JudgeChoice) -> bool:
    return choice.kind == "reward" or backend_of(choice).loads_weights


STAGE = StageDeclaration(
    name="judgements",
    output=Judgement,
    setting="judges",
    reads=(PROMPTS, GENERATE, INSTRUCT, ANSWER),
    source=PanelsWithImages,
    build=_build,
    unit="instructions",
    checkpoints=lambda choice: (choice.model,) if _loads_weights(choice) else (),
    runtime=lambda choice: "" if choice.kind == "reward" else backend_of(choice).runtime(choice),
    independent=INDEPENDENT,
    optional=True,
)
