"""The curves of a run's training: loss, the reward of the chosen and of the rejected answers, margin, accuracy."""

from __future__ import annotations

from typing import Any

from ..store import Run
from .curves import chart, column, read_metrics

METRICS = "training/metrics.jsonl"
PANELS = {
    "loss": {"training": "loss", "held out": "eval_loss"},
    "reward": {"chosen": "rewards/chosen", "rejected": "rewards/rejected"},
    "margin of the rewards": {"training": "rewards/margins", "held out": "eval_rewards/margins"},
    "pairs ordered rightly": {"training": "rewards/accuracies", "held out": "eval_rewards/accuracies"},
    "log-probability": {"chosen": "logps/chosen", "rejected": "logps/rejected"},
    "margin": {"training": "margin", "held out": "eval_margin"},
    "preferences ordered rightly": {"training": "accuracy", "held out": "eval_accuracy"},
}
"""The columns of preference trainings, and (the last two) of image rewards."""


def training_charts(run: Run) -> dict[str, Any]:
    """Return the panels there is something for, by title. Raises PrefmillError for damaged metrics."""
    lines = read_metrics(run, METRICS)
    drawn = {
        title: chart({label: column(run, METRICS, lines, key) for label, key in columns.items()})
        for title, columns in PANELS.items()
    }
    return {title: panel for title, panel in drawn.items() if panel}
