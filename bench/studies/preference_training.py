"""Studies of what training does: hallucination against the number of pairs, with preferences and with none, and with
or without the pair policy.

A seed is one whole loop: its own prompts, images, answers, pairs, training and held-out scenes. The unit of intervals
is a held-out scene; of one seed all trainings are asked about the same ones, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...base.hallucination import mcnemar
from ..hallucination import PolicyAnswers
from .study import Study, bootstrap, error_bars


@dataclass(frozen=True)
class Trained:
    """One training of one seed: what it was trained on, and what the policy then said about the held-out scenes."""

    label: str
    seed: int
    pairs: int
    answers: PolicyAnswers


def pairs_study(trained: Sequence[Trained]) -> Study:
    """Hallucination against the number of pairs (Table 3 of arXiv 2412.17417); 0 pairs is the untrained policy."""
    rows = _rows(trained)
    rates = {row["trained on"]: row["chair_s"] for row in rows}
    falls = all(after <= before for before, after in zip([*rates.values()][:-1], [*rates.values()][1:], strict=True))
    first, last = (_wrong(trained, label) for label in (rows[0]["trained on"], rows[-1]["trained on"]))

    def draw(axes: Any) -> None:
        sizes = [row["pairs"] for row in rows]
        for measure, low, high in (("chair_s", "low", "high"), ("pope_accuracy", "", ""), ("object_recall", "", "")):
            values = [row[measure] for row in rows]
            axes.plot(sizes, values, marker="o", label=measure)
            if low:
                axes.fill_between(sizes, [row[low] for row in rows], [row[high] for row in rows], alpha=0.2)
        axes.set_xlabel("preference pairs (mean of the seeds)")
        axes.set_ylim(0, 1.02)
        axes.legend(fontsize=8)

    return Study(
        "pairs",
        f"Hallucination against the number of pairs, {_seeds(trained)} seeds",
        rows,
        f"Descriptions that name something absent (CHAIR_s): {' -> '.join(f'{rate:.3f}' for rate in rates.values())} "
        f"with {', '.join(str(row['pairs']) for row in rows)} pairs, {'' if falls else 'not '}monotone; "
        f"the change from first to last is {bootstrap(last - first)}.",
        draw,
    )


def control_study(trained: Sequence[Trained]) -> Study:
    """Training on preferences, and on pairs that prefer nothing, seed by seed; the first is untrained."""
    labels = list(dict.fromkeys(one.label for one in trained))
    seeds = list(dict.fromkeys(one.seed for one in trained))
    rows: list[dict[str, Any]] = []
    changes: dict[str, list[str]] = {label: [] for label in labels}
    for seed in seeds:
        mine = [one for one in trained if one.seed == seed]
        quality = _rows(mine)
        for row, one in zip(quality, mine, strict=True):
            mended, broken, p = mcnemar(mine[0].answers.wrong, one.answers.wrong)
            rows.append({"seed": seed, **row, "mended": mended, "broken": broken, "mcnemar_p": float(f"{p:.2g}")})
            changes[one.label].append(f"{row['chair_s'] - quality[0]['chair_s']:+.3f} (p {p:.2g})")
    said = [
        f"Training on {label} changes CHAIR_s by {bootstrap(_wrong(trained, label) - _wrong(trained, labels[0]))}; "
        f"seed by seed {', '.join(changes[label])}."
        for label in labels[1:]
    ]

    def draw(axes: Any) -> None:
        for number, label in enumerate(labels):
            mine = [row for row in rows if row["trained on"] == label]
            spots = np.arange(len(seeds)) + 0.1 * number
            axes.errorbar(spots, [row["chair_s"] for row in mine], error_bars(mine, "chair_s"), fmt="o", label=label)
        axes.set_xticks(np.arange(len(seeds)) + 0.1, [str(seed) for seed in seeds])
        axes.set_xlabel("seed")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("descriptions that name something absent")
        axes.legend(fontsize=8, title="trained on", loc="center")

    return Study(
        "control",
        f"Training with preferences, and with none, {_seeds(trained)} seeds",
        rows,
        " ".join(said),
        draw,
    )


def junk_study(trained: Sequence[Trained]) -> Study:
    """Pairs with junk answers among them, taken as they come or by the pair policy."""
    rows = _rows(trained)
    labels = [row["trained on"] for row in rows]
    difference = bootstrap(_wrong(trained, labels[-1]) - _wrong(trained, labels[-2]))

    def draw(axes: Any) -> None:
        measures = ("chair_s", "object_recall", "pope_accuracy", "pope_yes_ratio")
        for number, row in enumerate(rows):
            spots = np.arange(len(measures)) + (number - len(rows) / 2 + 0.5) * 0.8 / len(rows)
            axes.bar(spots, [row[measure] for measure in measures], 0.8 / len(rows), label=row["trained on"])
        axes.set_xticks(range(len(measures)), measures)
        axes.legend(fontsize=8)

    return Study(
        "junk",
        f"Training on pairs with junk answers, {_seeds(trained)} seeds",
        rows,
        f"With fragments among the answers, CHAIR_s after training on pairs {labels[-1]} minus that on pairs "
        f"{labels[-2]} is {difference}.",
        draw,
    )


def _rows(trained: Sequence[Trained]) -> list[dict[str, Any]]:
    rows = []
    for label in dict.fromkeys(one.label for one in trained):
        mine = [one for one in trained if one.label == label]
        wrong = bootstrap(_wrong(trained, label))
        row: dict[str, Any] = {
            "trained on": label,
            "pairs": round(float(np.mean([one.pairs for one in mine]))),
            "seeds": len(mine),
            **wrong.columns("chair_s"),
        }
        for name in ("chair_i", "object_recall"):
            row[name] = round(float(np.mean([getattr(one.answers.chair, name) for one in mine])), 4)
        for name in ("accuracy", "precision", "recall", "f1", "yes_ratio"):
            row[f"pope_{name}"] = round(float(np.mean([getattr(one.answers.pope, name) for one in mine])), 4)
        rows.append(row)
    return rows


def _wrong(trained: Sequence[Trained], label: str) -> np.ndarray:
    """Per held-out scene of every seed: whether its description names something absent."""
    return np.concatenate([one.answers.wrong for one in trained if one.label == label]).astype(float)


def _seeds(trained: Sequence[Trained]) -> int:
    return len({one.seed for one in trained})
