"""Shares with their intervals: what every evaluator's numbers are made of.

A measure adds up two numbers over its items, and its value is one sum over the other: correct pairs over pairs, or the
items' own shares over their count. Items of one prompt are no independent witnesses, so the bootstrap draws prompts;
two measures that are resampled with the same draws can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np

from ..studies.study import Interval

RESAMPLINGS = 2_000
_AT_ONCE = 100  # draws in memory


@dataclass(frozen=True, slots=True)
class Ratio:
    """What each item adds to the sum above and to the one below."""

    over: Sequence[float]
    under: Sequence[float]

    @property
    def value(self) -> float | None:
        """The share; None where there is nothing to be a share of."""
        total = fsum(self.under)
        return fsum(self.over) / total if total else None


class Resampling:
    """The same draws of groups (prompts) for every measure of the same items."""

    def __init__(self, groups: Sequence[str]) -> None:
        names, self.places = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
        self.count = len(names)

    def values(self, ratio: Ratio) -> np.ndarray:
        """Return the ratio's value in every draw [RESAMPLINGS]; NaN where nothing was drawn to be a share of."""
        over, under = self.sums(np.stack([ratio.over, ratio.under], 1)).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return over / under

    def sums(self, columns: np.ndarray) -> np.ndarray:
        """Return the sums of the items' columns [items, C] in every draw [RESAMPLINGS, C]."""
        by_group = np.stack([np.bincount(self.places, column, self.count) for column in columns.T], 1)
        random = np.random.default_rng(0)
        found = []
        for _ in range(RESAMPLINGS // _AT_ONCE):
            draws = random.integers(self.count, size=(_AT_ONCE, self.count))
            rows = draws + self.count * np.arange(_AT_ONCE)[:, None]
            times = np.bincount(rows.ravel(), minlength=_AT_ONCE * self.count).reshape(_AT_ONCE, self.count)
            found.append(times @ by_group)
        return np.concatenate(found)

    def interval(self, ratio: Ratio) -> Interval | None:
        """Return the value with its 95 % percentile-bootstrap interval; None where there is no value.

        One group alone says nothing of others: the interval's ends are NaN.
        """
        return None if ratio.value is None else self._interval(ratio.value, self.values(ratio))

    def difference(self, one: Ratio, other: Ratio) -> Interval | None:
        """Return by how much one value exceeds the other, drawn together."""
        if one.value is None or other.value is None:
            return None
        return self._interval(one.value - other.value, self.values(one) - self.values(other))

    def _interval(self, value: float, draws: np.ndarray) -> Interval:
        return Interval(value, *interval_ends(draws, self.count))


def interval_ends(draws: np.ndarray, groups: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval of values in every draw; NaN where there are none, or one group."""
    if groups < 2 or np.isnan(draws).all():
        return math.nan, math.nan
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def plain(ratio: Ratio, resampling: Resampling) -> dict[str, Any]:
    """A measure for a report: its value and interval, what it is a share of, and of how many items."""
    return {
        **stated(resampling.interval(ratio)),
        "over": fsum(ratio.over),
        "of": fsum(ratio.under),
        "items": sum(1 for one in ratio.under if one),
    }


def stated(interval: Interval | None) -> dict[str, float | None]:
    """An interval as a report's three numbers; None for what there is not."""
    if interval is None:
        return {"value": None, "low": None, "high": None}
    low, high = (None if math.isnan(end) else end for end in (interval.low, interval.high))
    return {"value": interval.mean, "low": low, "high": high}
