"""How far people agree with the judge on pairs: shares with their intervals, and Cohen's kappa.

A verdict says whether a person, too, holds the chosen answer for the better one. Both then name one of two answers:

    share      of pairs on which both name the same answer, with Wilson's interval for 95 % (Wilson, 1927)
    kappa      (p - e) / (1 - e), p the share, e the agreement that two who name answers as often as these two would
               reach by chance (Cohen, 1960). Over all pairs the categories are the answer whose id sorts first and the
               other, which mean nothing, so that e is near one half; for a responder they are its answer and the other
               one, so that a taste for that responder which both have counts as chance
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile


@dataclass(frozen=True)
class JudgedPair:
    """A pair with a person's verdict: whether it `agrees` with the judge, who chose one answer over another."""

    chosen_id: str
    rejected_id: str
    agrees: bool
    chosen_responder: str | None = None
    rejected_responder: str | None = None


def agreement_with_judge(pairs: Iterable[JudgedPair]) -> dict[str, Any]:
    """Return pairs, agreements, share, interval and kappa over all pairs, and the same by responder."""
    pairs = list(pairs)
    names = {pair.chosen_responder for pair in pairs} | {pair.rejected_responder for pair in pairs}
    return _numbers([(pair.chosen_id < pair.rejected_id, pair.agrees) for pair in pairs]) | {
        "responders": {
            name: _numbers([(pair.chosen_responder == name, pair.agrees) for pair in own])
            | {
                "judge_prefers": sum(pair.chosen_responder == name for pair in own),
                "people_prefer": sum((pair.chosen_responder == name) == pair.agrees for pair in own),
            }
            for name in sorted(filter(None, names))
            if (own := [pair for pair in pairs if name in (pair.chosen_responder, pair.rejected_responder)])
        }
    }


def _numbers(pairs: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    """The measures over (the judge names the first category, the person agrees)."""
    agreed = sum(agrees for _, agrees in pairs)
    low, high = wilson(agreed, len(pairs))
    table = [[0, 0], [0, 0]]
    for judge, agrees in pairs:
        table[not judge][judge != agrees] += 1
    return {
        "pairs": len(pairs),
        "agreed": agreed,
        "share": agreed / len(pairs) if pairs else None,
        "interval": [low, high],
        "kappa": cohens_kappa(table),
    }


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; all of it where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, weight = hits / count, _Z * _Z / count
    middle = (share + weight / 2) / (1 + weight)
    half = _Z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def cohens_kappa(table: Sequence[Sequence[int]]) -> float | None:
    """Return kappa of a square table of counts [one rater's category][the other's]; None where chance explains all."""
    total = sum(map(sum, table))
    if not total:
        return None
    agreed = sum(table[place][place] for place in range(len(table))) / total
    columns = [sum(row[place] for row in table) for place in range(len(table))]
    chance = sum(sum(row) * column for row, column in zip(table, columns, strict=True)) / total**2
    return None if math.isclose(chance, 1.0) else (agreed - chance) / (1 - chance)
