"""A training's numbers as lines: points of SVG polylines, 600 x 160, as few as a screen can tell apart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..store import Run

MOST_POINTS = 240  # of a line, so that a page's size does not depend on the length of a training
COLOURS = ("var(--mark)", "var(--bad)", "var(--good)", "var(--soft)")


def read_metrics(run: Run, name: str) -> list[dict[str, Any]]:
    """Return the lines of a training's metrics.jsonl; a last one that is half written is left out.

    Raises PrefmillError for a damaged file.
    """
    lines = (run.read_text(name) or "").splitlines()
    try:
        steps = [json.loads(line) for line in lines if line.endswith("}")]
    except (ValueError, RecursionError) as error:
        raise run.damaged(name, error) from error
    if not all(isinstance(step, dict) for step in steps):
        raise run.damaged(name, "a line is no object")
    return steps


def column(run: Run, name: str, steps: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """Return (step, value) for the finite numbers of one column; a line without a step counts as its place, from 1.

    Raises PrefmillError where it holds something else.
    """
    try:
        values = [
            (float(step.get("step") or place), float(step[key]))
            for place, step in enumerate(steps, start=1)
            if step.get(key) is not None
        ]
    except (ValueError, TypeError) as error:
        raise run.damaged(name, error) from error
    return [(place, value) for place, value in values if math.isfinite(place) and math.isfinite(value)]


def chart(lines: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any] | None:
    """Return lines by label on one scale, None where there is no point. The lowest and the highest value stay in."""
    lines = {label: points for label, points in lines.items() if points}
    if not lines:
        return None
    steps = [step for points in lines.values() for step, _ in points]
    values = [value for points in lines.values() for _, value in points]
    (first, last), (low, high) = (min(steps), max(steps)), (min(values), max(values))
    across, down = 600 / ((last - first) or 1), 160 / ((high - low) or 1)
    drawn = [
        {
            "label": label,
            "points": " ".join(
                f"{(step - first) * across:.1f},{(high - value) * down:.1f}" for step, value in thinned(points)
            ),
            "first": points[0][1],
            "last": points[-1][1],
            "colour": COLOURS[number % len(COLOURS)],
        }
        for number, (label, points) in enumerate(lines.items())
    ]
    return {"lines": drawn, "low": low, "high": high, "first_step": first, "steps": last}


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a line of at most `MOST_POINTS`: of every stretch its lowest and its highest point, so no peak is lost."""
    if len(points) <= MOST_POINTS:
        return list(points)
    stretches = MOST_POINTS // 2
    kept = []
    for number in range(stretches):
        stretch = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        ends = (min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1]))
        kept += sorted(ends)
    return kept
