"""Panels: every instruction with the answers of all responders to it, for the judge and for the pair policy.

Responders answer one after the other, so an instruction's answers lie in several data sets. The index knows where;
the texts are read where a batch needs them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .declaration import Inputs, StageDeclaration
from .pair_policy import JudgedAnswer
from .sources import Groups, Panel, read_rows
from .store import Dataset


@dataclass(frozen=True)
class PanelStages:
    """The stages that a loop's panels are made of."""

    prompts: StageDeclaration
    images: StageDeclaration
    instructions: StageDeclaration
    answers: StageDeclaration

    def __call__(self, inputs: Inputs) -> PanelIndex:
        """Return the index over these stages' rows."""
        return PanelIndex(inputs, self)


class PanelIndex:
    """Where the answers to every instruction are."""

    def __init__(self, inputs: Inputs, stages: PanelStages) -> None:
        self.prompts, self.images = inputs.rows(stages.prompts), inputs.rows(stages.images)
        self.instructions, self.answers = inputs.rows(stages.instructions), inputs.instances(stages.answers)
        self.ids: list[str] = self.instructions.column("id")
        self.answer_ids: list[str] = []
        self.places: list[tuple[int, int]] = []  # answers before each data set's first, and its number
        asked: list[str] = []
        for number, dataset in enumerate(self.answers):
            self.places.append((len(self.answer_ids), number))
            self.answer_ids += dataset.column("id")
            asked += dataset.column("instruction_id")
        self.groups = Groups(self.ids, asked)

    def place(self, answer: int) -> tuple[int, int]:
        """Return the data set that holds an answer, and its row there."""
        first, number = next(place for place in reversed(self.places) if place[0] <= answer)
        return number, answer - first

    def prompts_of(self, image_ids: Sequence[str]) -> dict[str, str | None]:
        """Return the text-to-image prompt of every image; None where it has none."""
        owners = self._owners
        rows = {image: self.prompts.rows_by("id").get(owners.get(image) or "") for image in image_ids}
        texts = read_rows(self.prompts, (row for row in rows.values() if row is not None))
        return {image: None if row is None else texts[row].text for image, row in rows.items()}

    @cached_property
    def _owners(self) -> dict[str, str | None]:
        pairs = zip(self.images.column("id"), self.images.column("prompt_id"), strict=True)
        asked_about = set(self.instructions.column("image_id"))
        return {image: prompt for image, prompt in pairs if image in asked_about}


class PanelSource:
    """The panels of a run, in the order of its instructions; with scores where there are any."""

    def __init__(self, index: PanelIndex, scores: Dataset[Any] | None = None, *, with_prompts: bool = False) -> None:
        self.index, self.with_prompts = index, with_prompts
        self.scores = None if scores is None else _aligned(index.answer_ids, scores)

    def __len__(self) -> int:
        return len(self.index.ids)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range: the instruction's and those of its answers."""
        index = self.index
        return [
            " ".join([index.ids[row], *(index.answer_ids[answer] for answer in index.groups.of(row))])
            for row in range(start, min(stop, len(self)))
        ]

    def read(self, start: int, stop: int) -> Sequence[Panel]:
        """Return a range of panels."""
        index = self.index
        instructions = index.instructions.read(start, stop)
        members = [index.groups.of(start + offset) for offset in range(len(instructions))]
        answers = self._answers([answer for group in members for answer in group])
        prompts: Mapping[str, str | None] = {}
        if self.with_prompts:
            prompts = index.prompts_of([instruction.image_id for instruction in instructions])
        return [
            Panel(row, tuple(answers[answer] for answer in group), prompts.get(row.image_id))
            for row, group in zip(instructions, members, strict=True)
        ]

    def _answers(self, wanted: Sequence[int]) -> dict[int, JudgedAnswer]:
        places = {answer: self.index.place(answer) for answer in wanted}
        responses = [
            read_rows(dataset, (row for owner, row in places.values() if owner == number))
            for number, dataset in enumerate(self.index.answers)
        ]
        found = {answer: responses[number][row] for answer, (number, row) in places.items()}
        return {answer: JudgedAnswer(response, self._score(answer)) for answer, response in found.items()}

    def _score(self, answer: int) -> float | None:
        if self.scores is None or math.isnan(value := self.scores[answer]):
            return None
        return value


def _aligned(answers: Sequence[str], scores: Dataset[Any]) -> array[float]:
    """Return the score of every answer; NaN where there is none."""
    known = dict(zip(scores.column("subject_id"), scores.column("value"), strict=True))
    return array("d", (known.get(answer, math.nan) for answer in answers))
