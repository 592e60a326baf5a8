"""A text reward as a judge: ArmoRM's gated score, or a weighted sum of its attributes, with all of them recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..records import Reject, Score
from .reading import ReadPanel

if TYPE_CHECKING:
    from ...engine.scorers.text_reward import TextReward

GATED = "gated"
"""The name of the model's own score among the attributes, where the score is a sum by given weights."""


def reward_scores(
    engine: TextReward, readings: Sequence[ReadPanel], weights: Mapping[str, float], stage: str
) -> list[Score | Reject]:
    """Score every answer; a score that is no number rejects its answer, and the others go on."""
    from ...engine.scorers.attributes import ATTRIBUTES
    from ...engine.scorers.dialogue import judge_context

    asked = [
        (answer.response, judge_context(reading.prompt, reading.instruction), answer.text)
        for reading in readings
        for answer in reading.answers
    ]
    if not asked:
        return []
    judged = engine.score([context for _, context, _ in asked], [text for _, _, text in asked])
    rows = zip(asked, judged.scores.tolist(), judged.attributes.tolist(), judged.truncated, strict=True)
    outcome: list[Score | Reject] = []
    for (response, _, _), gated, values, truncated in rows:
        attributes = dict(zip(ATTRIBUTES, values, strict=True))
        score = gated
        if weights:
            score = math.fsum(weight * attributes[name] for name, weight in weights.items())
            attributes[GATED] = gated
        if math.isfinite(score):
            outcome.append(Score(response.id, engine.key, score, truncated, attributes))
        else:
            outcome.append(Reject(response.id, stage, "not_finite", f"scored {score}"))
    return outcome
