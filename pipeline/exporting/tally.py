"""What a data card says of the rows of an export: numbers as sorted samples of bounded size, names as counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

SAMPLE = 100_000  # numbers of a kind that are kept; a histogram of more looks the same


class RowTally:
    """Counts rows as they are written."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[float]] = {name: [] for name in NUMBERS}
        self.guidance = Counter[float]()
        self.topics, self.image_models = Counter[str](), Counter[str]()
        self.won, self.lost = Counter[str](), Counter[str]()

    def add(self, about: dict[str, Any] | None) -> None:
        """Count a row; None: it was left out."""
        if about is None:
            return
        for name, kept in self.numbers.items():
            if (value := about.get(name)) is not None and len(kept) < SAMPLE:
                kept.append(value)
        for name, counter in (
            *(("guidance", self.guidance), ("topic", self.topics), ("image_model", self.image_models)),
            *(("chosen_responder", self.won), ("rejected_responder", self.lost)),
        ):
            if (value := about.get(name)) is not None:
                counter[value] += 1


NUMBERS = ("margin", "chosen_score", "rejected_score", "image_score")
