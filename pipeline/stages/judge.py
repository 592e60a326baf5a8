"""Responses to scores: the text reward of every answer, with all its attributes.

The judge reads the answer that would be trained on: without an echo of the instruction in front. A score that is no
number rejects its answer, and the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ...base.settings import Settings
from ...engine.settings import EngineSettings
from ..declaration import Inputs, StageDeclaration
from ..pair_policy import clean
from ..panels import PanelSource, PanelStages
from ..records import Reject, Response, Score
from ..sources import Panel
from ..stage import Stage
from .answer import STAGE as ANSWER
from .generate import STAGE as GENERATE
from .instruct import STAGE as INSTRUCT
from .prompts import STAGE as PROMPTS

PANELS = PanelStages(PROMPTS, GENERATE, INSTRUCT, ANSWER)


class JudgeConfig(Settings):
    """Which text reward, and how many instructions (with all their answers) at a time."""

    model: str = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    context: Literal["instruction", "prompt"] = Field(
        default="instruction",
        description="what the judge reads before the answer: the instruction (as published), or the image's "
        "text-to-image prompt and the instruction, so that it can tell what the image should show",
    )
    batch_size: int = Field(default=8, ge=1)


class JudgeStage(Stage[Panel, Score]):
    """Score answers on their instructions."""

    def __init__(self, config: JudgeConfig, settings: EngineSettings) -> None:
        from ...engine.scorers.dialogue import judge_context
        from ...engine.scorers.text_reward import ATTRIBUTES, TextReward

        self.config, self.attributes, self.judge_context = config, ATTRIBUTES, judge_context
        self.engine = TextReward.from_pretrained(config.model, settings)
        self.model_keys = (self.engine.key,)

    def compute(self, prepared: Sequence[Panel]) -> list[Score | Reject]:
        """Score every answer that says something."""
        outcome: list[Score | Reject] = []
        asked: list[tuple[Response, str, str]] = []
        for panel in prepared:
            for answer in panel.answers:
                response, instruction = answer.response, panel.instruction.text
                text = clean(response.text, instruction)
                if text:
                    asked.append((response, self._context(panel), text))
                else:
                    outcome.append(Reject(response.id, STAGE.name, "empty", "nothing to judge"))
        if not asked:
            return outcome
        judged = self.engine.score([context for _, context, _ in asked], [text for _, _, text in asked])
        rows = zip(asked, judged.scores.tolist(), judged.attributes.tolist(), judged.truncated, strict=True)
        for (response, _, _), value, attributes, truncated in rows:
            if math.isfinite(value):
                named = dict(zip(self.attributes, attributes, strict=True))
                outcome.append(Score(response.id, self.engine.key, value, truncated, named))
            else:
                outcome.append(Reject(response.id, STAGE.name, "not_finite", f"scored {value}"))
        return outcome

    def _context(self, panel: Panel) -> str:
        prompt = panel.prompt if self.config.context == "prompt" else None
        return self.judge_context(prompt, panel.instruction.text)


def panels(inputs: Inputs) -> PanelSource:
    """Return the instructions with all answers, not yet judged."""
    return PanelSource(inputs.once(PANELS), with_prompts=inputs.settings.context == "prompt")


STAGE = StageDeclaration(
    name="response_scores",
    output=Score,
    setting="judge",
    reads=(PROMPTS, GENERATE, INSTRUCT, ANSWER),
    source=panels,
    build=JudgeStage,
    unit="instructions",
    checkpoints=lambda settings: (settings.model,),
)
