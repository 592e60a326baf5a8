"""What stages read: rows of the stages before, joined by id into what each one needs.

A source's order is fixed (see `Source`), so that a batch is a range of numbers and stays the same after a crash.
Only ids, numbers and the places of rows are held in memory; texts and images are read where a batch needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from .pair_policy import JudgedAnswer
from .records import Instruction, Prompt, Selection
from .store import Dataset, Run

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class ListSource(Generic[T]):
    """Inputs that are in memory already, each with the id its outputs depend on."""

    items: Sequence[T]
    identities: Sequence[str]

    def __len__(self) -> int:
        return len(self.items)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range."""
        return self.identities[start:stop]

    def read(self, start: int, stop: int) -> Sequence[T]:
        """Return a range."""
        return self.items[start:stop]


class DatasetSource(Generic[T]):
    """The rows of one dataset, turned into inputs by `join`: a row by itself, or (`join_all`) a batch at a time."""

    def __init__(
        self,
        dataset: Dataset[Any],
        join: Callable[[Any], T] | None = None,
        key: str = "id",
        *,
        join_all: Callable[[list[Any]], Sequence[T]] | None = None,
    ) -> None:
        self.dataset, self.join, self.join_all = dataset, join, join_all
        self.identities: list[str] = dataset.column(key)

    def __len__(self) -> int:
        return len(self.identities)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range."""
        return self.identities[start:stop]

    def read(self, start: int, stop: int) -> Sequence[T]:
        """Return a range, read and joined."""
        rows = self.dataset.read(start, stop)
        if self.join_all:
            return self.join_all(rows)
        return [self.join(row) for row in rows] if self.join else rows


class Groups:
    """Which members belong to each owner: the members' numbers, grouped by the owners' order, eight bytes each."""

    def __init__(self, owners: Sequence[str], belongs_to: Iterable[str | None]) -> None:
        """`belongs_to`: the owner of every member; None, and unknown ones, belong to nobody."""
        number = {owner: place for place, owner in enumerate(owners)}
        places = np.fromiter((number.get(owner or "", -1) for owner in belongs_to), np.int64)
        self.members = np.argsort(places, kind="stable")[np.count_nonzero(places < 0) :]
        self.ends = np.searchsorted(places[self.members], np.arange(len(owners)), side="right")

    def of(self, owner: int) -> list[int]:
        """Return the members of an owner, in their own order."""
        return self.members[self.ends[owner - 1] if owner else 0 : self.ends[owner]].tolist()


def read_rows(dataset: Dataset[Any], rows: Iterable[int]) -> dict[int, Any]:
    """Return rows by their numbers; neighbours are read together, and every part of a file once."""
    found: dict[int, Any] = {}
    for _, group in groupby(enumerate(sorted(set(rows))), key=lambda entry: entry[1] - entry[0]):
        numbers = [row for _, row in group]
        found |= zip(numbers, dataset.read(numbers[0], numbers[-1] + 1), strict=True)
    return found


@dataclass(frozen=True)
class PromptedImage:
    """A candidate with its prompt's text (None: imported without one).

    `image` is the stored file's bytes, or the decoded image itself: a uint8 tensor [H, W, 3] on any device.
    """

    candidate_id: str
    image: bytes | torch.Tensor
    prompt: str | None


@dataclass(frozen=True)
class Contest:
    """A prompt's candidates and their scores, in the candidates' order."""

    prompt_id: str
    scores: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ChosenImage:
    """A selection with its prompt."""

    selection: Selection
    prompt: Prompt


@dataclass(frozen=True)
class ImageQuestion:
    """An instruction with the image it is about."""

    instruction: Instruction
    image: bytes


@dataclass(frozen=True)
class Panel:
    """An instruction with every responder's answer to it, judged or (score None) not yet judged."""

    instruction: Instruction
    answers: tuple[JudgedAnswer, ...]
    prompt: str | None = None  # the image's text-to-image prompt, where it has one


def responses_folder(responder: str) -> str:
    """Return the folder of one responder's answers."""
    return f"responses-{responder}"


def responders_of(run: Run) -> list[str]:
    """Return the responders whose answers a run holds, by name."""
    prefix = responses_folder("")
    return [name.removeprefix(prefix) for name in run.stages() if name.startswith(prefix)]
