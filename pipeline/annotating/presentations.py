"""What ratings owe to the order in which images were shown: by place in the request, and between two presentations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations

from ..records import Annotation
from .ratings import RatedPrompt

Numbers = dict[str, float | None]
Measures = dict[str, dict[str, Numbers]]
"""By measure and by what is measured."""


class Places:
    """What the place in the request has to do with the rating."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)

    def add(self, rated: RatedPrompt) -> None:
        """Compare the images of each request."""
        for (annotator, *_), rows in _requests(rated.annotations).items():
            for row in rows:
                self.counts[annotator, row.position].update(ratings=1, total=row.rating or 0)
            for one, other in combinations(rows, 2):
                ahead, behind = sorted((one, other), key=lambda row: -(row.rating or 0))
                if ahead.rating != behind.rating:
                    self.counts[annotator, ahead.position].update(decided=1, won=1)
                    self.counts[annotator, behind.position].update(decided=1)

    def measure(self) -> dict[str, Numbers]:
        """Return mean rating and share of wins for each place, from 1."""
        return {
            f"{place + 1} with {annotator}": {
                "ratings": counts["ratings"],
                "mean": rounded(share(counts["total"], counts["ratings"])),
                "win_share": rounded(share(counts["won"], counts["decided"])),
            }
            for (annotator, place), counts in sorted(self.counts.items())
        }


class Swaps:
    """The two presentations of the same images held against each other."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, rated: RatedPrompt) -> None:
        """Compare what was said of each image, and of each two, in both presentations."""
        requests = _requests(rated.annotations)
        for (annotator, aspect, presentation), rows in requests.items():
            again = {row.subject_id: row.rating or 0 for row in requests.get((annotator, aspect, 1), ())}
            if presentation or not again:
                continue
            both = [(row.rating or 0, again[row.subject_id]) for row in rows if row.subject_id in again]
            counts = self.counts[annotator]
            for first, second in both:
                counts.update(images=1, same=first == second, difference=abs(first - second))
            for (a, c), (b, d) in combinations(both, 2):
                first, second = _sign(a - b), _sign(c - d)
                counts.update(pairs=1, changed=first != second)
                counts.update(decided=bool(first and second), flipped=first * second < 0)

    def measures(self) -> Measures:
        """Return both measures by annotator."""
        swaps: dict[str, Numbers] = {}
        consistency: dict[str, Numbers] = {}
        for annotator, counts in sorted(self.counts.items()):
            swaps[annotator] = {
                "pairs": counts["pairs"],
                "flipped": rounded(share(counts["flipped"], counts["decided"])),
                "changed": rounded(share(counts["changed"], counts["pairs"])),
            }
            consistency[annotator] = {
                "images": counts["images"],
                "same": rounded(share(counts["same"], counts["images"])),
                "mean_difference": rounded(share(counts["difference"], counts["images"])),
            }
        return {"order swap": swaps, "self-consistency": consistency}


def _requests(annotations: Iterable[Annotation]) -> dict[tuple[str, str, int], list[Annotation]]:
    """The ratings that were given, by annotator, aspect and presentation."""
    found: dict[tuple[str, str, int], list[Annotation]] = defaultdict(list)
    for row in annotations:
        if row.rating is not None:
            found[row.annotator, row.aspect, row.presentation].append(row)
    return found


def share(part: float, whole: float) -> float | None:
    """Return a part of a whole, None of nothing."""
    return part / whole if whole else None


def rounded(value: float | None) -> float | None:
    """Return a number as manifests hold it."""
    return None if value is None else round(value, 6)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
