"""What a study is: a table, a picture, and one sentence that says what was found and how sure it is."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...base.versions import package_versions
from ...engine.device import hardware_description

RESAMPLINGS = 10_000


@dataclass(frozen=True)
class Study:
    """A finished study. `rows` have the same keys; `draw` gets a matplotlib Axes."""

    name: str
    title: str
    rows: Sequence[dict[str, Any]]
    sentence: str
    draw: Callable[[Any], None]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def columns(self, mean: str = "share", low: str = "low", high: str = "high") -> dict[str, float]:
        """The three numbers as a table's columns."""
        return {mean: round(self.mean, 4), low: round(self.low, 4), high: round(self.high, 4)}


def bootstrap(values: Sequence[float] | np.ndarray) -> Interval:
    """Return the mean of independent values with its 95 % percentile-bootstrap interval."""
    array = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(0)
    picks = random.integers(len(array), size=(RESAMPLINGS, len(array)))
    low, high = np.percentile(array[picks].mean(1), [2.5, 97.5])
    return Interval(float(array.mean()), float(low), float(high))


def error_bars(rows: Sequence[dict[str, Any]], mean: str = "share") -> list[np.ndarray]:
    """Lengths of the intervals of rows with a `mean`, `low` and `high`, below and above."""
    middle, low, high = (np.array([row[name] for row in rows]) for name in (mean, "low", "high"))
    return [middle - low, high - middle]


def grouped_bars(axes: Any, rows: Sequence[dict[str, Any]], key: str) -> list[np.ndarray]:
    """Draw rows' shares with their intervals, those of one `key` in one colour; return where each colour's bars are."""
    names = list(dict.fromkeys(row[key] for row in rows))
    places = []
    for number, name in enumerate(names):
        mine = [row for row in rows if row[key] == name]
        spots = np.arange(len(mine)) + (number - len(names) / 2 + 0.5) * 0.8 / len(names)
        bars = {"yerr": error_bars(mine), "error_kw": {"linewidth": 0.7}}
        axes.bar(spots, [row["share"] for row in mine], 0.8 / len(names), label=name, **bars)
        places.append(spots)
    return places


def write_study(study: Study, folder: Path, command: str) -> list[Path]:
    """Write NAME.csv, NAME.png and NAME.txt into `folder`, and return their paths.

    The text ends with the command that measured, when, on what and with which versions.
    """
    from matplotlib.figure import Figure  # slow to import

    folder.mkdir(parents=True, exist_ok=True)
    table, picture, text = (folder / f"{study.name}.{suffix}" for suffix in ("csv", "png", "txt"))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(study.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(study.rows)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    study.draw(axes)
    axes.set_title(study.title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=120)
    stated = hardware_description() | package_versions()
    made = f"{command}; {datetime.now(UTC):%Y-%m-%d}; {', '.join(f'{name} {value}' for name, value in stated.items())}"
    text.write_text(f"{study.sentence}\n\n{made}\n", encoding="utf-8")
    return [table, picture, text]
