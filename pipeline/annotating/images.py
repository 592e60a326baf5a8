"""The images of every prompt, whatever drew them or brought them: what annotators are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..declaration import Inputs, StageDeclaration
from ..records import Prompt
from ..sources import Groups, read_rows
from ..stage import digest


@dataclass(frozen=True)
class PromptImages:
    """A prompt with the files of its images by their ids; or an image alone that was imported without a prompt."""

    prompt: Prompt | None
    images: dict[str, bytes]


class ImagesByPrompt:
    """The prompts of a run with all their images, and behind them the images that have no prompt.

    Images lie in a data set for each generator; they are put in the order of their ids, so that which of them was
    drawn first changes nothing.
    """

    def __init__(self, inputs: Inputs, prompts: StageDeclaration, images: StageDeclaration) -> None:
        self.prompts, self.datasets = inputs.rows(prompts), inputs.instances(images)
        self.prompt_ids: list[str] = self.prompts.column("id")
        self.image_ids: list[str] = []
        self.places: list[tuple[int, int]] = []  # data set and row of each image
        owners: list[str | None] = []
        for number, dataset in enumerate(self.datasets):
            ids = dataset.column("id")
            self.image_ids += ids
            self.places += [(number, row) for row in range(len(ids))]
            owners += dataset.column("prompt_id")
        known = set(self.prompt_ids)
        self.groups = Groups(self.prompt_ids, owners)
        self.orphans = [image for image, owner in enumerate(owners) if owner not in known]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.orphans)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return a digest of the prompt's id and those of its images, input by input."""
        found = []
        for row in range(start, min(stop, len(self))):
            owner = self.prompt_ids[row] if row < len(self.prompt_ids) else ""
            found.append(digest([owner, *(self.image_ids[image] for image in self._members(row))]))
        return found

    def read(self, start: int, stop: int) -> Sequence[PromptImages]:
        """Return a range of prompts with their images; each part of a file is read once."""
        rows = range(start, min(stop, len(self)))
        members = {row: self._members(row) for row in rows}
        files = self._files([image for group in members.values() for image in group])
        last = min(stop, len(self.prompt_ids))
        prompts = dict(zip(rows, self.prompts.read(start, last) if start < last else (), strict=False))
        return [
            PromptImages(prompts.get(row), {self.image_ids[image]: files[image] for image in members[row]})
            for row in rows
        ]

    def _members(self, row: int) -> list[int]:
        if row >= len(self.prompt_ids):
            return [self.orphans[row - len(self.prompt_ids)]]
        # one picture may have been imported, or drawn, twice
        first = {self.image_ids[image]: image for image in reversed(self.groups.of(row))}
        return [first[identity] for identity in sorted(first)]

    def _files(self, images: Sequence[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for number, dataset in enumerate(self.datasets):
            rows = {self.places[image][1]: image for image in images if self.places[image][0] == number}
            found |= {rows[row]: candidate.image for row, candidate in read_rows(dataset, rows).items()}
        return found
