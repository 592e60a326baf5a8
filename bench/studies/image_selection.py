"""Studies of selection, on candidates that the oracle has judged: who picks what, and is it right?

Each takes the judged candidates of several runs (one per seed); prompts are the unit of every interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ...engine.micro.selection import pick
from ...engine.settings import EngineSettings
from ..selection import JudgedCandidates, comparator_scores
from .study import Interval, Study, bootstrap

COMPARATORS = ("clip", "blip-matching")


def guidance_study(runs: Sequence[JudgedCandidates]) -> Study:
    """How often each guidance scale is picked, per topic (Fig. 4 of arXiv 2412.17417)."""
    scales = runs[0].guidance
    topics = np.array([scene_topic for run in runs for scene_topic in run.topics])
    picked = np.concatenate([run.scores.argmax(1) for run in runs])
    rows: list[dict[str, Any]] = []
    for topic in [*sorted(set(topics)), "all"]:
        mine = picked[topics == topic] if topic != "all" else picked
        for column, scale in enumerate(scales):
            share = bootstrap(mine == column)
            exact = float(np.concatenate([run.exact[:, column] for run in runs]).mean())
            rows.append({"topic": topic, "guidance": scale, "prompts": len(mine), **_parts(share), "exact": exact})
    overall = [row for row in rows if row["topic"] == "all"]
    best = max(overall, key=lambda row: row["share"])
    share = Interval(best["share"], best["low"], best["high"])

    def draw(axes: Any) -> None:
        names = list(dict.fromkeys(row["topic"] for row in rows))
        for number, topic in enumerate(names):
            mine = [row for row in rows if row["topic"] == topic]
            spots = np.arange(len(scales)) + (number - len(names) / 2 + 0.5) * 0.8 / len(names)
            shares = np.array([row["share"] for row in mine])
            bars = [shares - [row["low"] for row in mine], [row["high"] for row in mine] - shares]
            axes.bar(spots, shares, 0.8 / len(names), label=topic, yerr=bars, error_kw={"linewidth": 0.7})
        axes.axhline(1 / len(scales), color="gray", linewidth=0.8, linestyle="--")
        axes.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
        axes.set_xlabel("guidance scale")
        axes.set_ylabel("share of prompts whose picked image has it")
        axes.legend(fontsize=8)

    return Study(
        "guidance",
        "Which guidance scale the image reward picks",
        rows,
        f"The image reward picks guidance {best['guidance']:g} most often, for {share} of {len(picked)} prompts "
        f"(even shares would be {1 / len(scales):.2f}).",
        draw,
    )


def agreement_study(runs: Sequence[JudgedCandidates], settings: EngineSettings) -> Study:
    """How much the top 1, 2 and 3 of reward, CLIP and BLIP have in common (Table 4)."""
    scores = {"reward": np.concatenate([run.scores for run in runs])}
    for name in COMPARATORS:
        scores[name] = np.concatenate([comparator_scores(run, name, settings) for run in runs])
    orders = {name: np.argsort(-values, axis=1, kind="stable") for name, values in scores.items()}
    groups = [*combinations(orders, 2), tuple(orders)]
    count = scores["reward"].shape[1]
    rows: list[dict[str, Any]] = []
    for group in groups:
        for top in range(1, count):
            heads = [[set(order[:top].tolist()) for order in orders[name]] for name in group]
            shared = [len(set.intersection(*sets)) / top for sets in zip(*heads, strict=True)]
            chance = (top / count) ** (len(group) - 1)
            rows.append({"scorers": " & ".join(group), "top": top, **_parts(bootstrap(shared)), "chance": chance})
    first = rows[0]

    def draw(axes: Any) -> None:
        names = list(dict.fromkeys(row["scorers"] for row in rows))
        for number, name in enumerate(names):
            mine = [row for row in rows if row["scorers"] == name]
            spots = np.arange(len(mine)) + (number - len(names) / 2 + 0.5) * 0.8 / len(names)
            shares = np.array([row["share"] for row in mine])
            bars = [shares - [row["low"] for row in mine], [row["high"] for row in mine] - shares]
            axes.bar(spots, shares, 0.8 / len(names), label=name, yerr=bars, error_kw={"linewidth": 0.7})
            axes.plot(spots, [row["chance"] for row in mine], "k_", label="chance" if number == 0 else None)
        axes.set_xticks(range(count - 1), [f"@{top}" for top in range(1, count)])
        axes.set_ylabel("share of the top in common")
        axes.legend(fontsize=8)

    agreement = Interval(first["share"], first["low"], first["high"])
    return Study(
        "agreement",
        "Agreement of three scorers on the best candidates",
        rows,
        f"Image reward and CLIP pick the same image for {agreement} of {len(scores['reward'])} prompts "
        f"(chance {first['chance']:.2f}).",
        draw,
    )


def selection_study(runs: Sequence[JudgedCandidates], settings: EngineSettings) -> Study:
    """Are the picked images right? Reward, CLIP, BLIP, chance and the best fixed guidance (Table 5)."""
    exact = np.concatenate([run.exact for run in runs])
    reward = np.concatenate([run.scores for run in runs])
    chance = exact.mean(1)
    found = {"image reward": pick(exact, reward)}
    for name in COMPARATORS:
        found[name] = pick(exact, np.concatenate([comparator_scores(run, name, settings) for run in runs]))
    best = int(exact.mean(0).argmax())
    found[f"guidance {runs[0].guidance[best]:g} always"] = exact[:, best].astype(float)
    found |= {"chance": chance, "image reward, its worst": pick(exact, -reward), "possible": exact.any(1).astype(float)}
    rows = [
        {"picked by": name, **_parts(bootstrap(right)), **_named("minus_chance", bootstrap(right - chance))}
        for name, right in found.items()
    ]
    over_chance, over_clip = bootstrap(found["image reward"] - chance), bootstrap(found["image reward"] - found["clip"])
    over_fixed = bootstrap(found["image reward"] - exact[:, best])

    def draw(axes: Any) -> None:
        shares = np.array([row["share"] for row in rows])
        bars = [shares - [row["low"] for row in rows], [row["high"] for row in rows] - shares]
        axes.barh(range(len(rows)), shares, xerr=bars, color="#4c78a8", error_kw={"linewidth": 0.8})
        axes.set_yticks(range(len(rows)), [row["picked by"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlabel("share of picked images that show exactly what was asked")

    return Study(
        "selection",
        "Are the picked images right? The oracle judges",
        rows,
        f"Over {len(chance)} prompts the image reward picks exactly right images more often than chance by "
        f"{over_chance}, than CLIP by {over_clip}, and than the best fixed guidance by {over_fixed}.",
        draw,
    )


def same_seed_study(different: Sequence[JudgedCandidates], same: Sequence[JudgedCandidates]) -> Study:
    """Candidates from one noise against candidates from their own: what is there to choose from?"""
    rows: list[dict[str, Any]] = []
    gains: dict[str, np.ndarray] = {}
    for name, runs in (("own noise", different), ("one noise", same)):
        exact, scores = (np.concatenate([getattr(run, field) for run in runs]) for field in ("exact", "scores"))
        gains[name] = pick(exact, scores) - exact.mean(1)
        measures = {"chance": exact.mean(1), "picked": pick(exact, scores), "possible": exact.any(1)}
        mixed = exact.any(1) & ~exact.all(1)
        measures |= {"gain": gains[name], "groups with right and wrong": mixed}
        rows += [{"candidates": name, "measure": key, **_parts(bootstrap(row))} for key, row in measures.items()]
    difference = bootstrap(gains["own noise"] - gains["one noise"])

    def draw(axes: Any) -> None:
        names = list(dict.fromkeys(row["measure"] for row in rows))
        for number, kind in enumerate(gains):
            mine = [row for row in rows if row["candidates"] == kind]
            shares = np.array([row["share"] for row in mine])
            bars = [shares - [row["low"] for row in mine], [row["high"] for row in mine] - shares]
            axes.bar(np.arange(len(names)) + 0.4 * number - 0.2, shares, 0.4, label=kind, yerr=bars)
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set_ylabel("share of prompts")
        axes.legend(fontsize=8)

    return Study(
        "same-seed",
        "Four candidates from one noise, or each from its own",
        rows,
        f"Selection gains {difference} more over chance when every candidate has its own noise than when all four "
        f"share one ({len(gains['own noise'])} prompts each).",
        draw,
    )


def _parts(interval: Interval) -> dict[str, float]:
    return {"share": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def _named(name: str, interval: Interval) -> dict[str, float]:
    return {
        name: round(interval.mean, 4),
        f"{name}_low": round(interval.low, 4),
        f"{name}_high": round(interval.high, 4),
    }
