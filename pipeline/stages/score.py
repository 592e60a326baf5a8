"""Candidates to scores: the image reward of every candidate on its prompt. All scores are kept, not only the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...engine.images import UnreadableImage, decode_image
from ...engine.settings import EngineSettings
from ..records import Reject, Score
from ..sources import PromptedImage
from ..stage import Stage

STAGE = "image_scores"


class ScoreConfig(BaseModel):
    """Which image reward, and how many images at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "THUDM/ImageReward"
    batch_size: int = Field(default=16, ge=1)


@dataclass(frozen=True)
class _Prepared:
    rejects: list[Reject]
    subjects: list[str]
    prompts: list[str]
    pixels: Any  # [B, 3, S, S], or None when nothing is left to score


class ScoreStage(Stage[PromptedImage, Score]):
    """Score images against their prompts."""

    def __init__(self, config: ScoreConfig, settings: EngineSettings) -> None:
        from ...engine.image_reward import ImageScorer

        self.engine = ImageScorer.from_pretrained(config.model, settings)
        self.model_keys = (self.engine.key,)

    def prepare(self, inputs: Sequence[PromptedImage]) -> _Prepared:
        """Decode, resize and normalise."""
        rejects, images, kept = [], [], []
        for item in inputs:
            identity = item.candidate.id
            if item.prompt is None:
                rejects.append(Reject(identity, STAGE, "no_prompt", "imported without a prompt to score it on"))
                continue
            try:
                images.append(decode_image(item.candidate.image))
            except UnreadableImage as error:
                rejects.append(Reject(identity, STAGE, f"image_{error.reason}", error.message))
                continue
            kept.append((identity, item.prompt))
        pixels = self.engine.preprocess(images) if images else None
        return _Prepared(rejects, [identity for identity, _ in kept], [prompt for _, prompt in kept], pixels)

    def compute(self, prepared: _Prepared) -> list[Score | Reject]:
        """Score what could be decoded."""
        if prepared.pixels is None:
            return list(prepared.rejects)
        scores = self.engine.score(prepared.pixels, prepared.prompts)
        outcome: list[Score | Reject] = list(prepared.rejects)
        rows = zip(prepared.subjects, scores.values.tolist(), scores.truncated, strict=True)
        for subject, value, truncated in rows:
            if math.isfinite(value):
                outcome.append(Score(subject, self.engine.key, value, truncated))
            else:
                outcome.append(Reject(subject, STAGE, "not_finite", f"scored {value}"))
        return outcome
