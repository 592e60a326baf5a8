"""An evaluation of scorers on human rankings, as plain values: never one number alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from .agreement import decided_pairs
from .measures import Ratio, Resampling, plain, stated
from .rankings import RankedImages, RankingBenchmark, Rankings, Scores
from .rankings_scores import ItemScores, RecordedScores, check_fit, usable

_NAMED = 20  # items left out that a report names


def evaluate_scores(
    benchmark: RankingBenchmark,
    data: Rankings,
    validation: Rankings | None,
    recorded: RecordedScores,
    *,
    path: Path,
    partial: bool = False,
) -> dict[str, Any]:
    """Hold all scorers' scores against the rankings: measures with intervals, differences to the first scorer.

    Raises PrefmillError for scores that are not of this data, are missing or not finite (unless `partial`).
    """
    everything = [*data.items, *(validation.items if validation else [])]
    known = {item.id for item in data.items}
    if validation and (both := [item.id for item in validation.items if item.id in known]):
        raise PrefmillError(
            f"the item {both[0]!r} is in the data and in the validation file.", "choose on items that are not evaluated"
        )
    for scorer, own in recorded.by_scorer.items():
        check_fit(own, everything, scorer)
    items, left_out = usable(data.items, recorded.by_scorer, partial=partial)
    trial, _ = usable(validation.items, recorded.by_scorer, partial=partial) if validation else ([], {})
    resampling = Resampling([item.prompt for item in items])
    scorers: dict[str, Any] = {}
    measured: dict[str, dict[str, Ratio]] = {}
    for scorer, own in recorded.by_scorer.items():
        chosen = benchmark.choose(trial, _of(own, trial)) if benchmark.choose and trial else {}
        measured[scorer] = benchmark.measure(items, _of(own, items), chosen)
        scorers[scorer] = {
            "key": next(iter(own.values())).key,
            "chosen": chosen,
            "truncated_prompts": sum(own[item.id].truncated for item in items),
            "measures": {name: plain(ratio, resampling) for name, ratio in measured[scorer].items()},
        }
    official = None if benchmark.official_sha256 is None else data.sha256 == benchmark.official_sha256
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "rule": benchmark.rule,
        "rule_version": benchmark.version,
        "headline": benchmark.headline,
        "data": {
            "path": str(path),
            "sha256": data.sha256,
            "official": official,
            "rows_left_out": dict(data.left_out),
            **_counts(items),
        },
        "validation": validation and {"sha256": validation.sha256, **_counts(trial)},
        "scores": recorded.files,
        "coverage": {
            "items": len(items),
            "of": len(data.items),
            "left_out": dict(list(left_out.items())[:_NAMED]),
        },
        "scorers": scorers,
        "differences": _differences(benchmark.headline, measured, resampling),
        "published": [asdict(one) for one in benchmark.published],
    }


def _of(own: Mapping[str, ItemScores], items: list[RankedImages]) -> Scores:
    return [own[item.id].scores for item in items]


def _counts(items: list[RankedImages]) -> dict[str, int]:
    """How much the items say: prompts, images, pairs that people decided, and pairs that they tied."""
    decided = sum(len(item.pairs) or sum(1 for _ in decided_pairs(item.ranks)) for item in items)
    ties = sum(sum(one == other for one, other in combinations(item.ranks, 2)) for item in items)
    return {
        "prompts": len({item.prompt for item in items}),
        "items": len(items),
        "images": sum(len(item.images) for item in items),
        "pairs": decided,
        "ties": ties,
    }


def _differences(headline: str, measured: Mapping[str, Mapping[str, Ratio]], resampling: Resampling) -> dict[str, Any]:
    """By how much the first scorer's headline exceeds every other's, on the same draws of prompts."""
    names = [name for name in measured if headline in measured[name]]
    if len(names) < 2:
        return {}
    first = measured[names[0]][headline]
    others = {name: stated(resampling.difference(first, measured[name][headline])) for name in names[1:]}
    return {"of": names[0], "measure": headline, "minus": others}
