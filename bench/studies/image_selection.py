"""Studies of selection, on candidates that the oracle has judged: who picks what, and is it right?

Each takes the judged candidates of several runs (one per seed); prompts are the unit of every interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ...engine.settings import EngineSettings
from ...micro.measure.selection import pick
from ..selection import JudgedCandidates, micro_scores
from .study import Interval, Study, bootstrap, error_bars, grouped_bars

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
            rows.append({"topic": topic, "guidance": scale, "prompts": len(mine), **share.columns(), "exact": exact})
    overall = [row for row in rows if row["topic"] == "all"]
    best = max(overall, key=lambda row: row["share"])
    share = Interval(best["share"], best["low"], best["high"])

    def draw(axes: Any) -> None:
        grouped_bars(axes, rows, "topic")
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
        scores[name] = np.concatenate([micro_scores(run, name, settings) for run in runs])
    orders = {name: np.argsort(-values, axis=1, kind="stable") for name, values in scores.items()}
    groups = [*combinations(orders, 2), tuple(orders)]
    count = scores["reward"].shape[1]
    rows: list[dict[str, Any]] = []
    for group in groups:
        for top in range(1, count):
            heads = [[set(order[:top].tolist()) for order in orders[name]] for name in group]
            shared = [len(set.intersection(*sets)) / top for sets in zip(*heads, strict=True)]
            chance = (top / count) ** (len(group) - 1)
            rows.append({"scorers": " & ".join(group), "top": top, **bootstrap(shared).columns(), "chance": chance})
    first = rows[0]

    def draw(axes: Any) -> None:
        for number, spots in enumerate(grouped_bars(axes, rows, "scorers")):
            chances = [row["chance"] for row in rows[number * len(spots) :][: len(spots)]]
            axes.plot(spots, chances, "k_", label="chance" if number == 0 else None)
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
        found[name] = pick(exact, np.concatenate([micro_scores(run, name, settings) for run in runs]))
    best = int(exact.mean(0).argmax())
    found[f"guidance {runs[0].guidance[best]:g} always"] = exact[:, best].astype(float)
    found |= {"chance": chance, "image reward, its worst": pick(exact, -reward), "possible": exact.any(1).astype(float)}
    rows = [
        {
            "picked by": name,
            **bootstrap(right).columns(),
            **bootstrap(right - chance).columns("minus_chance", "minus_chance_low", "minus_chance_high"),
        }
        for name, right in found.items()
    ]
    over_chance, over_clip = bootstrap(found["image reward"] - chance), bootstrap(found["image reward"] - found["clip"])
    over_fixed = bootstrap(found["image reward"] - exact[:, best])

    def draw(axes: Any) -> None:
        shares = [row["share"] for row in rows]
        axes.barh(range(len(rows)), shares, xerr=error_bars(rows), color="#4c78a8", error_kw={"linewidth": 0.8})
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
        rows += [{"candidates": name, "measure": key, **bootstrap(row).columns()} for key, row in measures.items()]
    difference = bootstrap(gains["own noise"] - gains["one noise"])

    def draw(axes: Any) -> None:
        grouped_bars(axes, rows, "candidates")
        names = list(dict.fromkeys(row["measure"] for row in rows))
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
