"""A training's numbers as lines: the points of SVG polylines, 600 x 160."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from ..store import Run


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


def column(run: Run, name: str, steps: Sequence[dict[str, Any]], key: str) -> list[float]:
    """Return the finite numbers of one column. Raises PrefmillError where it holds something else."""
    try:
        values = [float(step[key]) for step in steps if key in step]
    except (ValueError, TypeError) as error:
        raise run.damaged(name, error) from error
    return [value for value in values if math.isfinite(value)]


def curve(values: Sequence[float]) -> dict[str, Any] | None:
    """Return a line through values, None where there are none."""
    if not values:
        return None
    low, high = min(values), max(values)
    width, height = 600 / max(len(values) - 1, 1), 160 / ((high - low) or 1)
    points = " ".join(f"{number * width:.1f},{(high - value) * height:.1f}" for number, value in enumerate(values))
    return {"points": points, "low": low, "high": high, "steps": len(values), "first": values[0], "last": values[-1]}
