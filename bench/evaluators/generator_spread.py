"""How far the images of one prompt lie apart: a generator that has learnt to please a reward draws one of them always.

The distance is the mean over all pairs of a prompt's images at one guidance scale: in pixels the root of the mean
squared difference, of values from 0 to 1; in a scorer's space one minus the cosine of its image embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field

from ...base.settings import Settings
from ...engine.images import UnreadableImage, decode_image
from ...engine.scorers.catalogue import load_image_scorer
from ...engine.settings import EngineSettings
from ...pipeline.declaration import Inputs, StageDeclaration
from ...pipeline.records import Candidate, Reject, content_id
from ...pipeline.sources import read_rows
from ...pipeline.stage import Stage
from ...pipeline.stages.generate import STAGE as GENERATE
from ...pipeline.stages.prompts import STAGE as PROMPTS
from ...pipeline.store import Dataset

PIXELS = "pixels"


class SpreadConfig(Settings):
    """In which space, and whose images. `space`: pixels, or a scorer that has embeddings, loaded from `model`."""

    space: str
    model: str = ""
    generator: str
    batch_size: int = Field(default=8, ge=1, description="groups of images at a time")

    @property
    def name(self) -> str:
        """What the folder of its rows ends in."""
        return f"{self.space}-{self.generator}"


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean distance between `images` images of a prompt at one guidance scale."""

    prompt_id: str
    space: str
    guidance: float
    distance: float
    images: int


@dataclass(frozen=True)
class _Group:
    prompt_id: str
    guidance: float
    images: tuple[bytes, ...]


class _Groups:
    """The images of each prompt and scale, in the order in which they were drawn."""

    def __init__(self, candidates: Dataset[Candidate]) -> None:
        self.candidates = candidates
        owners = zip(candidates.column("prompt_id"), candidates.column("guidance"), strict=True)
        found: dict[tuple[str, float], list[int]] = {}
        for row, owner in enumerate(owners):
            found.setdefault(owner, []).append(row)
        ids = candidates.column("id")
        self.members = list(found.items())
        self.identities = [content_id("group", *(ids[row] for row in rows)) for _, rows in self.members]

    def __len__(self) -> int:
        return len(self.members)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return what the rows of a range depend on: the images themselves."""
        return self.identities[start:stop]

    def read(self, start: int, stop: int) -> Sequence[_Group]:
        """Return the groups of a range with their images."""
        wanted = self.members[start:stop]
        rows = read_rows(self.candidates, (row for _, members in wanted for row in members))
        return [_Group(*owner, tuple(rows[row].image for row in members)) for owner, members in wanted]


class SpreadStage(Stage[_Group, Spread]):
    """Measure groups of images."""

    def __init__(self, config: SpreadConfig, settings: EngineSettings) -> None:
        self.space = config.space
        self.engine: Any = None if config.space == PIXELS else load_image_scorer(config.space, config.model, settings)
        self.model_keys = () if self.engine is None else (self.engine.key,)

    def prepare(self, inputs: Sequence[_Group]) -> list[tuple[_Group, list[Any]]]:
        """Decode the images; one that cannot be read takes its group's other images' company, not their place."""
        return [(group, [picture for data in group.images if (picture := _decoded(data))]) for group in inputs]

    def compute(self, prepared: Sequence[tuple[_Group, list[Any]]]) -> list[Spread | Reject]:
        """Measure; a single image has no distance to another."""
        pictures = [picture for _, images in prepared for picture in images]
        if not pictures:
            return [_alone(group) for group, _ in prepared]
        places = self._places(pictures)
        outcome: list[Spread | Reject] = []
        for group, images in prepared:
            own, places = places[: len(images)], places[len(images) :]
            if len(images) < 2:
                outcome.append(_alone(group))
                continue
            distance = self._distance(own)
            outcome.append(Spread(group.prompt_id, self.space, group.guidance, distance, len(images)))
        return outcome

    def _places(self, pictures: list[Any]) -> Any:
        if self.engine is None:
            return [np.asarray(picture, dtype=np.float64) / 255 for picture in pictures]
        with torch.inference_mode():
            return self.engine.embed(self.engine.preprocess(pictures)).double().cpu().numpy()

    def _distance(self, places: Any) -> float:
        return mean_distance(places) if self.engine is None else mean_angle(np.asarray(places))


def mean_distance(images: Sequence[np.ndarray]) -> float:
    """The mean over all pairs of the root mean squared difference of images of equal shape."""
    pairs = [np.sqrt(np.square(one - other).mean()) for n, one in enumerate(images) for other in images[:n]]
    return float(np.mean(pairs))


def mean_angle(features: np.ndarray) -> float:
    """The mean over all pairs of one minus the cosine of unit features [N, D]."""
    return float(np.mean(1 - (features @ features.T)[np.triu_indices(len(features), 1)]))


def _decoded(data: bytes) -> Any:
    try:
        return decode_image(data)
    except UnreadableImage:
        return None


def _alone(group: _Group) -> Reject:
    return Reject(group.prompt_id, SPREADS.name, "single_image", f"guidance {group.guidance:g}")


def _source(inputs: Inputs) -> _Groups:
    return _Groups(inputs.run.dataset(f"{GENERATE.name}-{inputs.settings.generator}", Candidate))


SPREADS = StageDeclaration(
    name="spreads",
    output=Spread,
    setting="spreads",
    reads=(PROMPTS,),
    source=_source,
    build=SpreadStage,
    unit="groups of images",
    checkpoints=lambda settings: (settings.model,) if settings.model else (),
    annotates=True,
    optional=True,
)
