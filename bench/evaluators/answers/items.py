"""The answered items of a benchmark whose number of items is fixed, as its script reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from .matching import AnswerCoverage, GivenAnswer
from .records import InputFile

Item = TypeVar("Item")


@dataclass(frozen=True)
class AnsweredItems(Generic[Item]):
    """The items that are answered, how the answers fit, and the files."""

    items: tuple[Item, ...]
    coverage: AnswerCoverage
    inputs: dict[str, InputFile]
    notes: tuple[str, ...]


def spoken(answer: GivenAnswer) -> str:
    """Return an answer's text without the role that LLaVA's scripts leave in front of it."""
    return (answer.text or "").replace("Assistant:", "").strip()
