"""A training's curves as a picture beside its numbers.

A dashed line is where a log-probability began: a preference loss falls as well when the chosen answers become less
likely, so long as the rejected ones do so faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import PrefmillError
from ..base.files import replacing
from .events import METRICS, MetricsFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "curves.png"
Panels = Mapping[str, tuple[str, ...]]
"""Title to the columns of metrics.jsonl that are drawn below it."""
PANELS: Panels = {
    "loss": ("loss", "eval_loss"),
    "reward margin": ("rewards/margins", "eval_rewards/margins"),
    "accuracy": ("rewards/accuracies", "eval_rewards/accuracies"),
    "log-probability": ("logps/chosen", "logps/rejected"),
}
"""Those of a training on pairs of answers."""
_FEW = 30  # points that are marked, for a line through one of them is none


def write_curves(output: Path, panels: Panels = PANELS) -> str | None:
    """Draw a training's metrics.jsonl into its curves.png; return what kept it from being drawn, or None.

    Raises PrefmillError where the file system refuses, and for damaged metrics.
    """
    lines = MetricsFile(output / METRICS).read()
    if not lines:
        return None
    try:
        figure = draw(lines, panels)
        with replacing(output / CURVES) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    except PrefmillError:
        raise
    except Exception as error:  # whatever a drawing library raises, the training is worth more than its picture
        return f"{CURVES} was not drawn: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return None


def draw(lines: Sequence[Mapping[str, float]], panels: Panels = PANELS) -> Figure:
    """Return the panels, two in a row; a line without a column, as most are of evaluations', is left out of it."""
    from matplotlib.figure import Figure  # without pyplot: no window, no state, the Agg canvas

    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(11, 3.5 * rows), layout="constrained")
    spots = figure.subplots(rows, 2, squeeze=False).flat
    for axes, (title, columns) in zip(spots, panels.items(), strict=False):
        for number, column in enumerate(columns):
            points = [(line["step"], line[column]) for line in lines if column in line]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            marker = "." if len(points) < _FEW else None
            axes.plot(steps, values, color=f"C{number}", marker=marker, label=column)
            if column.startswith("logps/"):
                axes.axhline(values[0], color=f"C{number}", linestyle="--", linewidth=1)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    return figure
