"""Candidates to scores: the image reward of every candidate on its prompt. All scores are kept, not only the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ...base.settings import Settings
from ...engine.images import UnreadableImage, decode_image
from ...engine.settings import EngineSettings
from ..records import Reject, Score
from ..sources import PromptedImage
from ..stage import Stage

if TYPE_CHECKING:
    import torch

STAGE = "image_scores"


class ScoreConfig(Settings):
    """Which image reward, and how many images at a time."""

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
        from ...engine.scorers.image_reward import ImageRewardScorer

        self.engine = ImageRewardScorer.from_pretrained(config.model, settings)
        self.model_keys = (self.engine.key,)

    def prepare(self, inputs: Sequence[PromptedImage]) -> _Prepared:
        """Decode what is not decoded, resize and normalise."""
        import torch  # here, since configurations are read without it

        rejects, subjects, prompts, parts = [], [], [], []
        for item in inputs:
            identity = item.candidate_id
            if item.prompt is None:
                rejects.append(Reject(identity, STAGE, "no_prompt", "imported without a prompt to score it on"))
                continue
            try:
                parts.append(self._pixels(item.image))
            except UnreadableImage as error:
                rejects.append(Reject(identity, STAGE, f"image_{error.reason}", error.message))
                continue
            subjects.append(identity)
            prompts.append(item.prompt)
        pixels = torch.cat([part.to(parts[-1].device) for part in parts]) if parts else None
        return _Prepared(rejects, subjects, prompts, pixels)

    def _pixels(self, image: bytes | torch.Tensor) -> torch.Tensor:
        """One image as pixels [1, 3, S, S]; a decoded one stays on its device."""
        if isinstance(image, bytes):
            return self.engine.preprocess([decode_image(image)])
        return self.engine.preprocess(image.permute(2, 0, 1)[None])

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
