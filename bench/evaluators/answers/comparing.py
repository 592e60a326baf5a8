"""Two evaluations of the same questions, before and after: every measure's change, and every item's.

Both reports hold the counts of their items and the formulas of their measures. Changes are drawn together, whole images
at a time, so that an interval says whether the change is more than chance; McNemar's exact test asks the same of the
items that are wrong in one of the two alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....base.errors import PrefmillError
from ....base.hallucination import Share, mcnemar
from ..measures import interval_ends
from .evaluation import ItemTable, Measure, Term, draws_of, value_of
from .records import InputFile, read_input

_FIELDS = {"evaluation": str, "title": str, "rule": str, "rule_version": int, "settings": dict, "inputs": dict}
_FIX = "give two reports that `prefmill eval pope|amber ... --to FILE` wrote"


@dataclass(frozen=True)
class ReadReport:
    """A report, read: its fields, its items and measures as they were, and the file."""

    fields: Mapping[str, Any]
    items: ItemTable
    measures: tuple[Measure, ...]
    source: InputFile


def read_report(path: Path, option: str) -> ReadReport:
    """Read a report of `Evaluation.report`. Raises PrefmillError for a file that is none."""
    data, source = read_input(path, option)
    try:
        fields = json.loads(data.decode("utf-8-sig"))
        for name, kind in _FIELDS.items():
            if not isinstance(fields[name], kind):
                raise TypeError(name)
        items, counts = fields["items"], fields["items"]["counts"]
        table = ItemTable(
            tuple(items["id"]),
            tuple(items["group"]),
            tuple(items["category"]),
            {name: np.array(column, dtype=np.float64) for name, column in counts.items()},
            items["wrong"],
        )
        measures = tuple(map(_measure, fields["measures"]))
        whole = {len(table.ids)} == {
            len(column) for column in (table.groups, table.categories, *table.columns.values())
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrefmillError(f"{path} is no report of an evaluation of answers", _FIX) from error
    if not whole or table.wrong not in table.columns:
        raise PrefmillError(f"{path} is damaged: its items' columns differ in length", _FIX)
    return ReadReport(fields, table, measures, source)


def compare(before: ReadReport, after: ReadReport, *, partial: bool = False) -> dict[str, Any]:
    """Return every measure before, after and their difference with its 95 % interval, and McNemar's test by category.

    Raises PrefmillError for evaluations of different benchmarks, rules, settings or questions; and for items that one
    of the two lacks unless `partial`, which compares those of both.
    """
    _check_same(before, after)
    places = [{name: place for place, name in enumerate(one.items.ids)} for one in (before, after)]
    common = [name for name in before.items.ids if name in places[1]]
    alone = len(before.items.ids) + len(after.items.ids) - 2 * len(common)
    if not common or (alone and not partial):
        raise PrefmillError(
            f"{alone:,} items are in one of the two evaluations alone, {len(common):,} in both",
            "evaluate the same questions twice, or compare those of both with --allow-partial",
        )
    first, second = (
        _chosen(one.items, [own[name] for name in common]) for one, own in zip((before, after), places, strict=True)
    )
    if first.groups != second.groups or first.categories != second.categories:
        raise PrefmillError("the two evaluations have other images or categories for the same ids", _FIX)
    return {
        "title": before.fields["title"],
        "rule": before.fields["rule"],
        "rule_version": before.fields["rule_version"],
        "settings": before.fields["settings"],
        "inputs": {"before": asdict(before.source), "after": asdict(after.source)},
        "coverage": {"items": len(common), "in_one_alone": alone},
        "measures": _changes(before.measures, after.measures, first, second),
        "items": _tests(first, second),
        "changed": _changed(first, second),
    }


def _measure(row: Mapping[str, Any]) -> Measure:
    formula = row["formula"]
    terms = tuple(
        Term(
            Share(one["share"]["over"], tuple(one["share"]["under"]), one["share"]["factor"]),
            tuple(one["categories"]),
            one["weight"],
        )
        for one in formula["terms"]
    )
    return Measure(row["group"], row["name"], terms, formula["constant"], formula["scale"], row.get("official"))


def _check_same(before: ReadReport, after: ReadReport) -> None:
    """Raise PrefmillError, which names both values, where two reports are of different things."""
    for name in ("evaluation", "rule_version", "settings"):
        one, other = (report.fields[name] for report in (before, after))
        if name == "settings":
            one, other = ({key: value for key, value in each.items() if key != "matched by"} for each in (one, other))
        if one != other:
            raise PrefmillError(f"the two evaluations differ in {name}: {one} and {other}", "evaluate both alike")
    one, other = (_questions(report.fields) for report in (before, after))
    if one != other:
        odd = next(name for name in sorted({*one, *other}) if one.get(name) != other.get(name))
        raise PrefmillError(f"the two evaluations are of different files: {odd}", "evaluate both on the same questions")


def _questions(fields: Mapping[str, Any]) -> dict[str, str]:
    """The digests of everything but the answers."""
    return {name: one["sha256"] for name, one in fields["inputs"].items() if not name.startswith("answers")}


def _chosen(items: ItemTable, places: Sequence[int]) -> ItemTable:
    return ItemTable(
        tuple(items.ids[place] for place in places),
        tuple(items.groups[place] for place in places),
        tuple(items.categories[place] for place in places),
        {name: column[list(places)] for name, column in items.columns.items()},
        items.wrong,
    )


def _changes(
    before: Sequence[Measure], after: Sequence[Measure], first: ItemTable, second: ItemTable
) -> list[dict[str, Any]]:
    """The measures that both have, on the same items; official numbers where the items are all that there were."""
    theirs = {(one.group, one.name): one for one in after}
    shared = [one for one in before if (one.group, one.name) in theirs]
    rows = []
    for one, old, new in zip(shared, draws_of(shared, first), draws_of(shared, second), strict=True):
        values = value_of(one, first), value_of(one, second)
        row = {"group": one.group, "name": one.name, "scale": one.scale, "before": values[0], "after": values[1]}
        if values[0] is None or values[1] is None:
            rows.append(row | {"difference": None, "low": None, "high": None})
            continue
        ends = interval_ends(new - old, first.resampling.count)
        low, high = (None if np.isnan(end) else end for end in ends)
        rows.append(row | {"difference": values[1] - values[0], "low": low, "high": high})
    return rows


def _tests(first: ItemTable, second: ItemTable) -> dict[str, dict[str, Any]]:
    """McNemar's test on the items of every category, and of all."""
    found = {}
    names = list(dict.fromkeys(first.categories))
    for name in [*names, *(["all"] if len(names) > 1 else [])]:
        kept = first.of_category(name) if name != "all" else np.ones(len(first.ids), dtype=bool)
        was, now = first.columns[first.wrong][kept] > 0, second.columns[second.wrong][kept] > 0
        mended, broken, p = mcnemar(was.tolist(), now.tolist())
        counts = {"items": int(kept.sum()), "wrong_before": int(was.sum()), "wrong_after": int(now.sum())}
        found[name] = {**counts, "mended": mended, "broken": broken, "p": p}
    return found


def _changed(first: ItemTable, second: ItemTable) -> dict[str, list[str]]:
    """The ids of the items that are wrong in one of the two alone."""
    was, now = first.columns[first.wrong] > 0, second.columns[second.wrong] > 0
    return {
        name: [first.ids[place] for place in np.flatnonzero(kept)]
        for name, kept in {"mended": was & ~now, "broken": now & ~was}.items()
    }
