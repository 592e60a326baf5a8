"""Ratings of the images of a prompt, brought together: by annotator, aspect, presentation and image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..declaration import Inputs, StageDeclaration
from ..records import Annotation, Prompt
from ..sources import Groups, read_rows
from ..stage import digest


@dataclass(frozen=True)
class RatedPrompt:
    """A prompt and all that was said of its images, annotator by annotator."""

    prompt: Prompt
    annotations: tuple[Annotation, ...]
    _ratings: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for row in self.annotations:
            if row.rating is not None:
                images = self._ratings.setdefault((row.annotator, row.aspect), {})
                images.setdefault(row.subject_id, []).append(row.rating)

    @property
    def images(self) -> list[str]:
        """The images of which something was said, in the order of their ids."""
        return sorted({row.subject_id for row in self.annotations})

    @property
    def annotators(self) -> list[str]:
        """Who rated something."""
        return list(dict.fromkeys(annotator for annotator, _ in self._ratings))

    def mean(self, annotator: str, aspect: str, image: str) -> float | None:
        """Return an annotator's mean over its presentations, None where it gave no rating."""
        ratings = self._ratings.get((annotator, aspect), {}).get(image)
        return sum(ratings) / len(ratings) if ratings else None

    def weighted(self, aspect: str, image: str, weights: Mapping[str, float]) -> float | None:
        """Return the mean over annotators, None where none with a weight gave a rating."""
        known = [(weights.get(name, 1.0), self.mean(name, aspect, image)) for name in self.annotators]
        total = sum(weight for weight, mean in known if mean is not None)
        return sum(weight * mean for weight, mean in known if mean is not None) / total if total else None


class RatedPrompts:
    """The prompts of a run, each with the ratings of all annotators; texts are read where a batch needs them."""

    def __init__(self, inputs: Inputs, prompts: StageDeclaration, annotations: StageDeclaration) -> None:
        self.prompts, self.datasets = inputs.rows(prompts), inputs.instances(annotations)
        self.ids: list[str] = self.prompts.column("id")
        self.groups = [Groups(self.ids, dataset.column("prompt_id")) for dataset in self.datasets]

    def __len__(self) -> int:
        return len(self.ids)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return a digest of the prompt's id and of its ratings, which are few numbers and decide everything."""
        return [
            digest([rated.prompt.id, *([r.subject_id, r.annotator, r.aspect, r.rating] for r in rated.annotations)])
            for rated in self.read(start, stop)
        ]

    def read(self, start: int, stop: int) -> Sequence[RatedPrompt]:
        """Return a range of prompts."""
        stop = min(stop, len(self))
        found: list[list[Annotation]] = [[] for _ in range(start, stop)]
        for dataset, groups in zip(self.datasets, self.groups, strict=True):
            members = [groups.of(row) for row in range(start, stop)]
            rows = read_rows(dataset, (row for group in members for row in group))
            for said, group in zip(found, members, strict=True):
                said.extend(rows[row] for row in group)
        prompts = self.prompts.read(start, stop) if start < stop else []
        return [RatedPrompt(prompt, tuple(rows)) for prompt, rows in zip(prompts, found, strict=True)]

    def __iter__(self) -> Iterator[RatedPrompt]:
        for start in range(0, len(self), _PORTION):
            yield from self.read(start, start + _PORTION)


_PORTION = 256  # prompts held in memory while all are looked at
