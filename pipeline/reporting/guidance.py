"""Guidance scales: what the image reward gives at each, and which of them are selected (the papers' Fig. 4)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

from ..candidate_folders import candidates_in
from ..records import Score, Selection
from ..store import Run

MOST_SCALES = 40


def guidance_scales(run: Run) -> list[dict[str, Any]]:
    """Return the scales in order: images, mean score with its 95 % interval, selections and their share.

    Only ids and numbers are held. More than `MOST_SCALES` are a random guidance: the most frequent are shown.
    """
    scale: dict[str, float | None] = {}
    for dataset in candidates_in(run):
        scale |= zip(dataset.column("id"), dataset.column("guidance"), strict=True)
    scores = run.dataset("image_scores", Score)
    values: dict[float, list[float]] = defaultdict(list)
    for image, value in zip(scores.column("subject_id"), scores.column("value"), strict=True):
        if (own := scale.get(image)) is not None:
            values[own].append(value)
    chosen = Counter(scale.get(image) for image in run.dataset("selections", Selection).column("image_id"))
    images = Counter(own for own in scale.values() if own is not None)
    shown = sorted(one for one, _ in images.most_common(MOST_SCALES))
    rows = [{"scale": own, "images": images[own], **_mean(values[own])} for own in shown]
    for row in rows:
        row |= {"selected": chosen[row["scale"]], "share": chosen[row["scale"]] / (chosen.total() or 1)}
    return _placed(rows) if chosen or values else []


def _mean(values: list[float]) -> dict[str, float | None]:
    if not values:
        return {"mean": None, "error": None}
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    return {"mean": mean, "error": 1.96 * math.sqrt(spread / len(values))}


def _placed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add where means and intervals stand between the lowest and the highest, in percent."""
    known = [row for row in rows if row["mean"] is not None]
    low = min((row["mean"] - row["error"] for row in known), default=0.0)
    high = max((row["mean"] + row["error"] for row in known), default=1.0)
    width = (high - low) or 1.0
    for row in known:
        row["at"] = 100 * (row["mean"] - low) / width
        row["from"] = 100 * (row["mean"] - row["error"] - low) / width
        row["width"] = 100 * 2 * row["error"] / width
    return rows
