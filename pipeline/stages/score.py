"""Candidates to scores: how well every candidate fits its prompt. All scores are kept, not only the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ...engine.images import UnreadableImage, decoded
from ...engine.scorers.choice import ScorerChoice
from ...engine.settings import EngineSettings
from ..declaration import Inputs, StageDeclaration
from ..judging.agreement import agreement, pulls
from ..records import Candidate, Reject, Score
from ..sources import DatasetSource, PromptedImage, read_rows
from ..stage import Stage
from .generate import STAGE as GENERATE
from .prompts import STAGE as PROMPTS

if TYPE_CHECKING:
    import torch


class ScoreConfig(ScorerChoice):
    """Which scorer of images, and how many images at a time."""

    batch_size: int = Field(default=16, ge=1)


@dataclass(frozen=True)
class _Prepared:
    rejects: list[Reject]
    subjects: list[str]
    prompts: list[str]
    pixels: Any  # [B, ...], or None when nothing is left to score


class ScoreStage(Stage[PromptedImage, Score]):
    """Score images against their prompts."""

    def __init__(self, config: ScoreConfig, settings: EngineSettings) -> None:
        self.engine = config.load(settings)
        self.model_keys = (self.engine.key,)

    def prepare(self, inputs: Sequence[PromptedImage]) -> _Prepared:
        """Decode what is not decoded, resize and normalise."""
        import torch  # here, since configurations are read without it

        rejects, subjects, prompts, parts = [], [], [], []
        for item in inputs:
            identity = item.candidate_id
            if item.prompt is None:
                rejects.append(Reject(identity, STAGE.name, "no_prompt", "imported without a prompt to score it on"))
                continue
            try:
                parts.append(self._pixels(item.image))
            except UnreadableImage as error:
                rejects.append(Reject(identity, STAGE.name, f"image_{error.reason}", error.message))
                continue
            subjects.append(identity)
            prompts.append(item.prompt)
        pixels = torch.cat([part.to(parts[-1].device) for part in parts]) if parts else None
        return _Prepared(rejects, subjects, prompts, pixels)

    def _pixels(self, image: bytes | torch.Tensor) -> torch.Tensor:
        """One image as the scorer's pixels [1, ...]; a decoded one stays on its device."""
        if isinstance(image, bytes):
            with decoded(image) as picture:
                return self.engine.preprocess([picture])
        return self.engine.preprocess(image.permute(2, 0, 1)[None])

    def compute(self, prepared: _Prepared) -> list[Score | Reject]:
        """Score what could be decoded."""
        if prepared.pixels is None:
            return list(prepared.rejects)
        scores = self.engine.score(prepared.pixels, prepared.prompts)
        outcome: list[Score | Reject] = list(prepared.rejects)
        parts = {name: values.tolist() for name, values in scores.parts.items()}
        rows = zip(prepared.subjects, scores.values.tolist(), scores.truncated, strict=True)
        for place, (subject, value, truncated) in enumerate(rows):
            own = {name: values[place] for name, values in parts.items()}
            if math.isfinite(value):
                outcome.append(Score(subject, self.engine.key, value, truncated, own or None))
            else:
                told = "".join(f", {name} {part}" for name, part in own.items())
                outcome.append(Reject(subject, STAGE.name, "not_finite", f"scored {value}{told}"))
        return outcome


def prompted_images(inputs: Inputs) -> DatasetSource[PromptedImage]:
    """Return the candidates with their prompts' texts."""
    prompts = inputs.rows(PROMPTS)
    places = prompts.rows_by("id")

    def join(candidates: list[Candidate]) -> list[PromptedImage]:
        rows = [places.get(candidate.prompt_id or "") for candidate in candidates]
        read = read_rows(prompts, (row for row in rows if row is not None))
        return [
            PromptedImage(candidate.id, candidate.image, None if row is None else read[row].text)
            for candidate, row in zip(candidates, rows, strict=True)
        ]

    return DatasetSource(inputs.rows(GENERATE), join_all=join)


def measured(inputs: Inputs) -> dict[str, Any]:
    """Return how a mixture's scorers agree on the images of a prompt, and how far each pulls the sum."""
    weights: dict[str, float] = inputs.settings.mixture
    if not weights:
        return {}
    candidates, scores = inputs.rows(GENERATE), inputs.rows(STAGE)
    owners = dict(zip(candidates.column("id"), candidates.column("prompt_id"), strict=True))
    panels: dict[str, dict[str, list[float | None]]] = {}
    for image, parts in zip(scores.column("subject_id"), scores.column("attributes"), strict=True):
        panel = panels.setdefault(owners[image] or "", {name: [] for name in weights})
        for name, value in parts:
            panel[name].append(value)
    return {"pull": pulls(panels.values(), weights), "agreement": agreement(panels.values())}


STAGE = StageDeclaration(
    name="image_scores",
    output=Score,
    setting="score",
    reads=(PROMPTS, GENERATE),
    source=prompted_images,
    build=ScoreStage,
    unit="images",
    checkpoints=lambda settings: tuple(settings.sources.values()),
    follows=GENERATE,
    annotates=True,
    measure=measured,
)
