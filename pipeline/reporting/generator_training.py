"""A generator's training in a run, as the report shows it: the first and the last grid of samples, and its curves."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

from ...engine.images import UnreadableImage, decode_image
from ..store import Run
from .curves import chart, column, read_metrics

SAMPLES = "samples"
METRICS = "metrics.jsonl"
WIDEST = 1000  # pixels of a grid, longer side
MOST_CURVES = 16
_STEP = re.compile(r"step-(\d+)\.png")
_TIMES = ("seconds", "time", "_left", "memory")


def generator_trainings(run: Run) -> list[dict[str, Any]]:
    """Return every folder of the run that holds grids of samples, with what it has to show.

    Raises PrefmillError for damaged metrics.
    """
    found = []
    for folder in sorted(path.parent for path in run.folder.glob(f"*/{SAMPLES}") if path.is_dir()):
        steps = {int(match[1]): path for path in _files(folder / SAMPLES) if (match := _STEP.fullmatch(path.name))}
        grids = [(step, _grid(steps[step])) for step in dict.fromkeys([min(steps), max(steps)])] if steps else []
        curves = _curves(run, f"{folder.name}/{METRICS}")
        if grids or curves:
            found.append({"name": folder.name, "grids": grids, "curves": curves})
    return found


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _curves(run: Run, name: str) -> dict[str, Any]:
    lines = read_metrics(run, name)
    keys = dict.fromkeys(key for line in lines for key, value in line.items() if isinstance(value, int | float))
    keys = [key for key in keys if key not in ("step", "epoch") and not any(word in key for word in _TIMES)]
    columns = {key: column(run, name, lines, key) for key in keys[:MOST_CURVES]}
    return {key: chart({key: points}) for key, points in columns.items() if len(points) > 1}


def _grid(path: Path) -> str | None:
    """A grid as a data address, made smaller; what cannot be read says nothing."""
    try:
        image = decode_image(path.read_bytes())
    except (OSError, UnreadableImage):
        return None
    image.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
