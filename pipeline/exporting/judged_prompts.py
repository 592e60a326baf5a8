"""A run's preferences between images, one prompt at a time, with all that was said of its images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...base.errors import PrefmillError
from ..annotating.settings import OVERALL
from ..candidate_folders import CandidateLookup
from ..records import Annotation, Candidate, ImagePreference
from ..sources import read_rows
from ..store import Dataset, Run
from .lineage import Lineage

STAGE = "image_preferences"


@dataclass(frozen=True)
class JudgedPrompt:
    """A prompt with the preferences between its images, and what annotators said of them, by folder."""

    id: str
    text: str
    preferences: list[ImagePreference]
    annotations: dict[str, list[Annotation]]
    candidates: CandidateLookup
    lineage: Lineage
    _seen: dict[str, Candidate] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """The side of the split."""
        return self.lineage.split(self.id, self.id)

    @property
    def overall(self) -> list[ImagePreference]:
        """The preferences by all aspects together."""
        return [preference for preference in self.preferences if preference.aspect == OVERALL]

    @property
    def images(self) -> list[str]:
        """The images that take part in an overall preference, or were rated, in the order they are met."""
        named = [image for one in self.overall for image in (one.chosen_id, one.rejected_id)]
        rated = [row.subject_id for rows in self.annotations.values() for row in rows if row.rating is not None]
        return list(dict.fromkeys([*named, *rated]))

    @property
    def by_image(self) -> dict[str, list[Annotation]]:
        """The annotations of every image."""
        found: dict[str, list[Annotation]] = defaultdict(list)
        for rows in self.annotations.values():
            for row in rows:
                found[row.subject_id].append(row)
        return found

    def image(self, identity: str) -> Candidate:
        """Return one of its images, read once. Raises PrefmillError where the run does not hold it."""
        if identity not in self._seen:
            if identity not in self.candidates:
                folder = self.lineage.run.folder
                raise PrefmillError(
                    f"a preference is about image {identity}, which {folder} does not hold",
                    "give `prefmill run` for this run again: it makes missing rows",
                )
            self._seen[identity] = self.candidates[identity]
        return self._seen[identity]


def judged_prompts(run: Run, lineage: Lineage) -> Iterator[JudgedPrompt]:
    """Yield every prompt that has preferences; one prompt is in memory. Raises PrefmillError where there are none."""
    preferences = run.dataset(STAGE, ImagePreference)
    if not len(preferences):
        raise PrefmillError(
            f"{run.folder} holds no preferences between images",
            f"make some with `prefmill annotate`, or import some with `prefmill import --image-preferences`; then "
            f"export {run.folder}",
        )
    candidates = CandidateLookup(run)
    annotations = {
        name: (dataset := run.dataset(name, Annotation), _rows_of(dataset))
        for name in run.stages()
        if name.startswith("annotations-")
    }
    for prompt, rows in _rows_of(preferences).items():
        own = list(read_rows(preferences, rows).values())
        said = {
            name: list(read_rows(dataset, places.get(prompt, ())).values())
            for name, (dataset, places) in annotations.items()
        }
        yield JudgedPrompt(prompt, own[0].prompt, own, said, candidates, lineage)


def _rows_of(dataset: Dataset[Any]) -> dict[str, list[int]]:
    """The rows of every prompt, in the order in which prompts are met."""
    places: dict[str, list[int]] = {}
    for row, prompt in enumerate(dataset.column("prompt_id")):
        places.setdefault(prompt, []).append(row)
    return places
