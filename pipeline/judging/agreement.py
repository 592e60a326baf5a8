"""How far several judges, or several scorers of images, agree on the order of what was made for one prompt.

Compared is within a prompt alone, and the mean over prompts reported: that one question gets higher scores than another
from both says nothing of their taste. An item counts where both have scored it, a prompt where two such items are.

    kendall_tau   tau-b: concordant minus discordant pairs, corrected for ties (Kendall, 1945)
    spearman      the correlation of ranks; items that tie share the mean of theirs
    same_best, same_worst   the probability that both name the same item, ties broken by a coin

The first two do not exist where one of the two sees no difference at all; those prompts are left out of their means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any


def agreement(panels: Iterable[Mapping[str, Sequence[float | None]]]) -> dict[str, dict[str, Any]]:
    """Return, by "ONE and OTHER", how two judges agree over panels of scores (None: not scored), item by item."""
    found: dict[str, dict[str, list[float]]] = {}
    for panel in panels:
        for one, other in combinations(panel, 2):
            both = [(x, y) for x, y in zip(panel[one], panel[other], strict=True) if x is not None and y is not None]
            if len(both) < 2:
                continue
            measures = found.setdefault(f"{one} and {other}", {name: [] for name in _MEASURES})
            for name, measure in _MEASURES.items():
                if (value := measure(*zip(*both, strict=True))) is not None:
                    measures[name].append(value)
    return {
        names: {"panels": len(measures["same_best"]), **{name: _mean(values) for name, values in measures.items()}}
        for names, measures in sorted(found.items())
    }


def pulls(
    panels: Iterable[Mapping[str, Sequence[float | None]]], weights: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    """Return, for each part of a weighted sum, how far it varies within a panel, and its share of what all vary.

    `deviation` is the root of the mean variance within panels of two and more, in the part's own unit; `share` is of
    the deviations times their weights.
    """
    variances: dict[str, list[float]] = {name: [] for name in weights}
    for panel in panels:
        for name, scores in panel.items():
            known = [score for score in scores if score is not None]
            if len(known) > 1:
                variances[name].append(statistics.pvariance(known))
    deviations = {name: math.sqrt(statistics.fmean(found)) for name, found in variances.items() if found}
    total = math.fsum(abs(weights[name]) * deviation for name, deviation in deviations.items())
    return {
        name: {
            "weight": weights[name],
            "deviation": round(deviation, 9),
            "share": round(abs(weights[name]) * deviation / total, 6) if total else None,
        }
        for name, deviation in deviations.items()
    }


def kendall_tau(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return tau-b of two sequences, None where one of them is constant."""
    signs = [(_sign(x[i] - x[j]), _sign(y[i] - y[j])) for i, j in combinations(range(len(x)), 2)]
    untied = math.prod(sum(pair[side] != 0 for pair in signs) for side in (0, 1))
    return sum(a * b for a, b in signs) / math.sqrt(untied) if untied else None


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return the correlation of ranks, None where one of the two is constant."""
    a, b = ([rank - (len(values) + 1) / 2 for rank in _ranks(values)] for values in (x, y))
    size = math.sqrt(math.fsum(v * v for v in a) * math.fsum(v * v for v in b))
    return math.fsum(v * w for v, w in zip(a, b, strict=True)) / size if size else None


def same_best(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the probability that the largest of both is the same item, ties broken by a coin."""
    a, b = ({place for place, value in enumerate(values) if value == max(values)} for values in (x, y))
    return len(a & b) / (len(a) * len(b))


def _same_worst(x: Sequence[float], y: Sequence[float]) -> float:
    return same_best([-value for value in x], [-value for value in y])


_MEASURES = {"kendall_tau": kendall_tau, "spearman": spearman, "same_best": same_best, "same_worst": _same_worst}


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _mean(values: Sequence[float]) -> float | None:
    return round(math.fsum(values) / len(values), 6) if values else None
