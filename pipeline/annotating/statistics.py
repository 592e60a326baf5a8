"""What there is to know of annotators, their ratings and the preferences made of them: the stage's measures.

ratings            how often each level was given, aspect by aspect
correlation        of two aspects over images (Pearson, of the means over annotators)
preferences        pairs compared, preferences, ties and pairs without a common rating
place              by the place an image had in the request: its mean rating, and the share it won of the
                   comparisons within requests that had a winner; one half where the order means nothing
order swap         two images in both orders: the share of winners that change (`flipped`, of pairs with a winner in
                   both), and of verdicts that change at all
self-consistency   an image in both presentations: how often the rating is the same, and the mean difference
agreement          between annotators, within a prompt (judging/agreement.py)
replies            of ratings asked for, by image, aspect and presentation: given, abstained, and lost to replies
                   that were no filled-in form, that declined, or that did not come
cost               of annotating, per 1,000 preferences, where the cost is known
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations

from ...engine.responders.image_ratings import ASPECTS
from ..judging.agreement import agreement
from ..records import Annotation
from ..store import Dataset, Run
from .aggregation import comparisons
from .presentations import Measures, Numbers, Places, Swaps, rounded, share
from .ratings import RatedPrompt, RatedPrompts
from .settings import OVERALL, PreferConfig

UNPARSED = frozenset(
    {"no_json", "invalid_json", "ambiguous", "wrong_form", "wrong_count", "out_of_range", "truncated", "empty"}
)
REFUSED = frozenset({"refusal", "content_filter"})
_NOT_ASKED = ("image_", "no_image", "no_prompt")


def statistics_of(run: Run, rated: RatedPrompts, config: PreferConfig) -> Measures:
    """Return all measures of a run's ratings; those that nothing is known of are left out. Reads all rows once."""
    levels, places, swaps, pairs = Levels(), Places(), Swaps(), PairCounts(config)
    panels: dict[str, list[dict[str, list[float | None]]]] = {aspect: [] for aspect in ASPECTS}
    correlations = Correlations(config.annotators)
    several = len(rated.datasets) > 1
    for one in rated:
        for gathered in (levels, places, swaps, pairs, correlations):
            gathered.add(one)
        for aspect in ASPECTS if several else ():
            panels[aspect].append({name: [one.mean(name, aspect, i) for i in one.images] for name in one.annotators})
    agreed = {
        f"{names} on {aspect}": numbers for aspect, seen in panels.items() for names, numbers in agreement(seen).items()
    }
    found = {
        **{"ratings": levels.measure(), "correlation": correlations.measure(), "preferences": pairs.measure()},
        **{"place": places.measure(), **swaps.measures(), "agreement": agreed},
        **{"replies": _replies(rated.datasets), "cost": _cost(run, rated.datasets, pairs)},
    }
    return {name: things for name, things in found.items() if things}


class Levels:
    """How often each level was given."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Counter[int | None]] = defaultdict(Counter)

    def add(self, rated: RatedPrompt) -> None:
        """Count a prompt's ratings."""
        for row in rated.annotations:
            self.counts[row.aspect, row.annotator][row.rating] += 1

    def measure(self) -> dict[str, Numbers]:
        """Return, by aspect and annotator, the ratings' number, mean and deviation, and the share of each level."""
        found: dict[str, Numbers] = {}
        for (aspect, annotator), counts in sorted(self.counts.items(), key=lambda entry: _place(*entry[0])):
            given = {level: count for level, count in counts.items() if level is not None}
            total = sum(given.values())
            mean = share(sum(level * count for level, count in given.items()), total)
            square = share(sum(level**2 * count for level, count in given.items()), total)
            deviation = None if mean is None or square is None else math.sqrt(max(0.0, square - mean**2))
            shares = {f"share_of_{level}": rounded(share(given.get(level, 0), total)) for level in range(1, 6)}
            numbers = {"ratings": total, "mean": rounded(mean), "deviation": rounded(deviation), **shares}
            found[f"{aspect} by {annotator}"] = numbers
        return found


class Correlations:
    """Of every two aspects, over images."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = weights
        self.sums: dict[tuple[str, str], list[float]] = {pair: [0.0] * 6 for pair in combinations(ASPECTS, 2)}

    def add(self, rated: RatedPrompt) -> None:
        """Add a prompt's images."""
        for image in rated.images:
            means = {aspect: rated.weighted(aspect, image, self.weights) for aspect in ASPECTS}
            for (one, other), sums in self.sums.items():
                x, y = means[one], means[other]
                if x is not None and y is not None:
                    sums[:] = (a + b for a, b in zip(sums, (1.0, x, y, x * x, y * y, x * y), strict=True))

    def measure(self) -> dict[str, Numbers]:
        """Return Pearson's correlation where both aspects were rated; None where one of the two never differs."""
        return {
            f"{one} and {other}": {"images": int(sums[0]), "pearson": rounded(_pearson(*sums))}
            for (one, other), sums in self.sums.items()
            if sums[0] > 1
        }


class PairCounts:
    """Every two images of a prompt, by each aspect and overall."""

    def __init__(self, config: PreferConfig) -> None:
        self.config, self.counts = config, Counter[tuple[str, str]]()

    def add(self, rated: RatedPrompt) -> None:
        """Compare a prompt's images, as the preferences were made."""
        for one in comparisons(rated, self.config):
            tied = one.is_tie(self.config.tie_band)
            self.counts[one.by, "not_compared" if one.difference is None else "ties" if tied else "preferences"] += 1

    def made(self, *by: str) -> int:
        """Return how many preferences there are, by these or by all."""
        return sum(self.counts[name, "preferences"] for name in by or self.config.by)

    def measure(self) -> dict[str, Numbers]:
        """Return the counts, and the share of ties among what was compared."""
        found: dict[str, Numbers] = {}
        for by in self.config.by:
            counts = {name: self.counts[by, name] for name in ("preferences", "ties", "not_compared")}
            compared = counts["preferences"] + counts["ties"]
            if compared or counts["not_compared"]:
                found[by] = {"compared": compared, **counts, "tie_share": rounded(share(counts["ties"], compared))}
        return found


def _replies(datasets: Iterable[Dataset[Annotation]]) -> dict[str, Numbers]:
    found: dict[str, Numbers] = {}
    for dataset in datasets:
        lost = {r: n for r, n in dataset.reject_counts().items() if not r.startswith(_NOT_ASKED)}
        ratings = dataset.column("rating")
        asked, unparsed = len(ratings) + sum(lost.values()), sum(lost.get(reason, 0) for reason in UNPARSED)
        refused, abstained = sum(lost.get(reason, 0) for reason in REFUSED), ratings.count(None)
        counts = {"given": len(ratings) - abstained, "abstained": abstained, "unparsed": unparsed, "refused": refused}
        counts["failed"] = sum(lost.values()) - unparsed - refused
        shares = {f"{name}_share": rounded(share(count, asked)) for name, count in counts.items() if name != "given"}
        found[dataset.name.partition("-")[2] or dataset.name] = {"asked": asked, **counts, **shares}
    return found


def _cost(run: Run, datasets: Iterable[Dataset[Annotation]], pairs: PairCounts) -> dict[str, Numbers]:
    costs = [run.manifest(dataset.name).get("cost") for dataset in datasets]
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) < len(costs):
        return {}
    total = math.fsum(known)
    per = {"overall": pairs.made(OVERALL), "all": pairs.made()}
    return {"1,000 preferences": {name: rounded(share(1000 * total, made)) for name, made in per.items()}}


def _pearson(count: float, x: float, y: float, xx: float, yy: float, xy: float) -> float | None:
    spread = (count * xx - x * x) * (count * yy - y * y)
    return (count * xy - x * y) / math.sqrt(spread) if spread > 1e-9 else None


def _place(aspect: str, annotator: str) -> tuple[int, str]:
    return ASPECTS.index(aspect), annotator
