"""Responses to scores: one judge's, or several judges' judgements as one score.

A judge reads the answer that would be trained on: without an echo of the instruction in front, and without the
`<image>` marker. A score that is no number rejects its answer, and the others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field, field_validator

from ...base.settings import Settings, Weight
from ...engine.settings import EngineSettings
from ..declaration import Inputs, StageDeclaration
from ..judging.agreement import agreement
from ..judging.mixture import JudgedPanel, ScoresOfJudges, mixed, silent_judges
from ..judging.reading import read_panels
from ..judging.reward import reward_scores
from ..judging.settings import AttributeWeights, Context
from ..panels import PanelIndex, PanelSource
from ..records import Reject, Score
from ..sources import Panel
from ..stage import Source, Stage
from .answer import STAGE as ANSWER
from .generate import STAGE as GENERATE
from .instruct import STAGE as INSTRUCT
from .judgements import PANELS
from .judgements import STAGE as JUDGEMENTS
from .prompts import STAGE as PROMPTS


class JudgeConfig(Settings):
    """Which text reward, and how many instructions (with all their answers) at a time."""

    model: str = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    context: Context = Field(
        default="instruction",
        description="what the judge reads before the answer: the instruction (as published), or the image's "
        "text-to-image prompt and the instruction, so that it can tell what the image should show",
    )
    weights: AttributeWeights = Field(
        default={},
        description="the score as a sum of the reward's attributes, e.g. {helpsteer-helpfulness: 1, "
        "helpsteer-verbosity: -0.5}; none: the model's own, gated by the prompt. All attributes are recorded",
    )
    mixture: dict[str, Weight] = Field(
        default={}, description="how much each of the `judges` counts, by name; none: this judge alone"
    )
    batch_size: int = Field(default=8, ge=1)

    @field_validator("mixture")
    @classmethod
    def _weighs(cls, mixture: dict[str, float]) -> dict[str, float]:
        if any(weight < 0 for weight in mixture.values()) or (mixture and not any(mixture.values())):
            raise ValueError("weights are 0 or more, and one of them is more")
        return mixture


class JudgeStage(Stage[Panel, Score]):
    """Score answers on their instructions."""

    def __init__(self, config: JudgeConfig, settings: EngineSettings) -> None:
        from ...engine.scorers.text_reward import TextReward

        self.config = config
        self.engine = TextReward.from_pretrained(config.model, settings)
        self.model_keys = (self.engine.key,)

    def compute(self, prepared: Sequence[Panel]) -> list[Score | Reject]:
        """Score every answer that says something."""
        readings, rejects = read_panels(prepared, STAGE.name, with_prompts=self.config.context == "prompt")
        return [*rejects, *reward_scores(self.engine, readings, self.config.weights, STAGE.name)]


class MixStage(Stage[JudgedPanel, Score]):
    """Mix the scores of several judges."""

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        self.silences: Counter[str] = Counter()

    @property
    def outcome(self) -> tuple[str, ...]:
        """Which judges were left out."""
        told = sorted(self.silences.items())
        return tuple(f"{name} scored no answer to {count} instructions: left out there" for name, count in told)

    def compute(self, prepared: Sequence[JudgedPanel]) -> list[Score | Reject]:
        """Mix panel by panel."""
        for panel in prepared:
            self.silences.update(silent_judges(panel, self.config.mixture))
        return [row for panel in prepared for row in mixed(panel, self.config.mixture, STAGE.name)]


class JudgedPanels:
    """The answers to every instruction with the scores of several judges; no text is read."""

    def __init__(self, inputs: Inputs) -> None:
        self.index: PanelIndex = inputs.once(PANELS)
        self.panels = PanelSource(self.index)
        self.scores: dict[str, dict[str, float]] = {}
        self.truncated: set[str] = set()
        for dataset in inputs.instances(JUDGEMENTS):
            subjects = dataset.column("subject_id")
            name = dataset.name.removeprefix(f"{JUDGEMENTS.name}-")
            self.scores[name] = dict(zip(subjects, dataset.column("value"), strict=True))
            cut = zip(subjects, dataset.column("truncated"), strict=True)
            self.truncated |= {subject for subject, was_cut in cut if was_cut}

    def __len__(self) -> int:
        return len(self.panels)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range."""
        return self.panels.keys(start, stop)

    def read(self, start: int, stop: int) -> Sequence[JudgedPanel]:
        """Return a range."""
        return [self._panel(row) for row in range(start, min(stop, len(self)))]

    def _panel(self, row: int) -> JudgedPanel:
        answers = tuple(self.index.answer_ids[answer] for answer in self.index.groups.of(row))
        scores = {name: [known.get(answer) for answer in answers] for name, known in self.scores.items()}
        return JudgedPanel(answers, scores, frozenset(self.truncated.intersection(answers)))

    def scores_of_panels(self) -> Iterator[ScoresOfJudges]:
        """Yield the scores of every panel."""
        for row in range(len(self)):
            yield self._panel(row).scores


def panels(inputs: Inputs) -> Source[Any]:
    """Return the instructions with all answers, not yet judged, or judged by several."""
    if inputs.settings.mixture:
        return JudgedPanels(inputs)
    return PanelSource(inputs.once(PANELS), with_prompts=inputs.settings.context == "prompt")


def measured(inputs: Inputs) -> dict[str, Any]:
    """Return how several judges agree."""
    if not inputs.settings.mixture:
        return {}
    return {"agreement": agreement(JudgedPanels(inputs).scores_of_panels())}


STAGE = StageDeclaration(
    name="response_scores",
    output=Score,
    setting="judge",
    reads=(PROMPTS, GENERATE, INSTRUCT, ANSWER, JUDGEMENTS),
    source=panels,
    build=lambda settings, engine: MixStage(settings) if settings.mixture else JudgeStage(settings, engine),
    unit="instructions",
    checkpoints=lambda settings: () if settings.mixture else (settings.model,),
    measure=measured,
)
