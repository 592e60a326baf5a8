"""What an evaluation of answers found: measures with what they are shares of, the counts of every item, and the inputs.

The counts of the items are in the report, and a measure is a formula over their sums: so two reports can be compared
item by item and measure by measure (`comparing.py`), whatever benchmark they are of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ....base.hallucination import Share
from ..measures import Resampling, interval_ends
from ..report import report_of
from .matching import AnswerCoverage
from .records import InputFile


@dataclass(frozen=True, slots=True)
class Term:
    """A weighted share of the items of some categories; of all items where none is named."""

    share: Share
    categories: tuple[str, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Measure:
    """One number: `scale` x (`constant` + the weighted sum of its terms), of a group of items (a row of the table).

    `official`: the number as the official script prints it, where its arithmetic differs from the share (rounding,
    added constants). None as the value of a term makes the measure undefined.
    """

    group: str
    name: str
    terms: tuple[Term, ...]
    constant: float = 0.0
    scale: float = 1.0
    official: float | None = None


@dataclass(frozen=True)
class ItemTable:
    """Of every item that was evaluated: its id, what it is drawn with (its image), its category, and its counts.

    `wrong`: the column of 0 and 1 that McNemar's test is about.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    categories: tuple[str, ...]
    columns: Mapping[str, np.ndarray]
    wrong: str

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        groups: Sequence[str],
        categories: Sequence[str],
        counts: Sequence[Mapping[str, float]],
        wrong: str,
    ) -> ItemTable:
        """Return the table of N items from the counts of each, which all have the same names."""
        names = list(counts[0]) if counts else [wrong]
        columns = {name: np.array([one[name] for one in counts], dtype=np.float64) for name in names}
        return cls(tuple(ids), tuple(groups), tuple(categories), columns, wrong)

    @cached_property
    def resampling(self) -> Resampling:
        """Draws of whole groups: questions about one image are no independent witnesses."""
        return Resampling(self.groups)

    def sums(self, term: Term) -> dict[str, float]:
        """Return the sums of a term's counts over its categories."""
        kept = self._kept(term)
        return {name: float(self.columns[name][kept].sum()) for name in _names(term)}

    def drawn(self, terms: Sequence[Term]) -> list[np.ndarray]:
        """Return every term's share in each draw of the bootstrap [RESAMPLINGS]; NaN where there is none."""
        sides = []
        for term in terms:
            kept = self._kept(term)
            under = np.sum([self.columns[name] for name in term.share.under], axis=0)
            sides += [self.columns[term.share.over] * kept * term.share.factor, under * kept]
        drawn = self.resampling.sums(np.stack(sides, 1)) if sides else np.empty((0, 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            return [drawn[:, 2 * place] / drawn[:, 2 * place + 1] for place in range(len(terms))]

    def _kept(self, term: Term) -> np.ndarray:
        if not term.categories:
            return np.ones(len(self.ids), dtype=bool)
        return np.any([self.of_category(name) for name in term.categories], axis=0)

    def of_category(self, category: str) -> np.ndarray:
        """Return which items are of a category [items]."""
        return self._category == category

    @cached_property
    def _category(self) -> np.ndarray:
        return np.asarray(self.categories)


@dataclass(frozen=True)
class Evaluation:
    """One benchmark's evaluation of a file of answers.

    `version` changes with whatever would change a number. `settings` say what was chosen (the mode, how answers were
    matched); `notes` are for the reader: what was odd.
    """

    name: str
    title: str
    rule: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, InputFile]
    coverage: AnswerCoverage
    measures: Sequence[Measure]
    items: ItemTable
    counts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def report(self, command: str) -> dict[str, Any]:
        """Return everything as plain values: what `write_report` writes and the table shows."""
        items = self.items
        return report_of(
            self.name,
            command,
            {
                "title": self.title,
                "rule": self.rule,
                "rule_version": self.version,
                "settings": dict(self.settings),
                "inputs": {name: asdict(one) for name, one in self.inputs.items()},
                "coverage": asdict(self.coverage),
                "counts": {group: dict(counts) for group, counts in self.counts.items()},
                "measures": measured(self.measures, items),
                "notes": list(self.notes),
                "items": {
                    "id": list(items.ids),
                    "group": list(items.groups),
                    "category": list(items.categories),
                    "wrong": items.wrong,
                    "counts": {name: [_plain(value) for value in column] for name, column in items.columns.items()},
                },
            },
        )


def value_of(measure: Measure, items: ItemTable) -> float | None:
    """Return a measure's value; None where one of its terms is a share of nothing."""
    shares = [term.share.of(items.sums(term)) for term in measure.terms]
    parts = [term.weight * share for term, share in zip(measure.terms, shares, strict=True) if share is not None]
    return measure.scale * (measure.constant + sum(parts)) if len(parts) == len(shares) else None


def draws_of(measures: Sequence[Measure], items: ItemTable) -> list[np.ndarray]:
    """Return every measure's value in each draw of the bootstrap [RESAMPLINGS]."""
    drawn = iter(items.drawn([term for measure in measures for term in measure.terms]))
    return [
        np.asarray(one.scale * (one.constant + sum(term.weight * next(drawn) for term in one.terms)))
        for one in measures
    ]


def measured(measures: Sequence[Measure], items: ItemTable) -> list[dict[str, Any]]:
    """Return the measures with their values, 95 % intervals, what they are shares of, and their formulas."""
    found = []
    for measure, draws in zip(measures, draws_of(measures, items), strict=True):
        value = value_of(measure, items)
        row = {"group": measure.group, "name": measure.name, "value": value}
        row |= {"low": None, "high": None} if value is None else _ends(interval_ends(draws, items.resampling.count))
        row |= {} if measure.official is None else {"official": measure.official}
        if len(measure.terms) == 1:
            sums = items.sums(measure.terms[0])
            share = measure.terms[0].share
            row |= {"over": share.factor * sums[share.over], "of": sum(sums[name] for name in share.under)}
        formula = {
            "constant": measure.constant,
            "scale": measure.scale,
            "terms": [asdict(one) for one in measure.terms],
        }
        found.append(row | {"formula": formula})
    return found


def _ends(ends: tuple[float, float]) -> dict[str, float | None]:
    low, high = (None if np.isnan(end) else end for end in ends)
    return {"low": low, "high": high}


def _names(term: Term) -> set[str]:
    return {term.share.over, *term.share.under}


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value
