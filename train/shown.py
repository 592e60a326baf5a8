"""A training's events on a screen: its notices as lines, its steps as a bar with the numbers that matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..base.progress import Progress
from .events import TrainingEvent

_SPENT = {"device_hours": ".2f", "dollars": ".2f"}


def shown(progress: Progress, name: str, columns: Mapping[str, str]) -> Callable[[TrainingEvent], None]:
    """Return what shows the events of the training `name`; `columns` of metrics.jsonl with the formats of their values.

    Hours of devices and their price come last, where they are told.
    """
    reached: int | None = None

    def show(event: TrainingEvent) -> None:
        nonlocal reached
        if event.kind != "step":
            progress.line(f"{name}: {event.message}")
            return
        if reached is None:
            reached = event.step - 1
            progress.begin(name, event.steps, reached, "steps")
        told = [
            f"{column.removeprefix('rewards/').replace('_', ' ')} {event.metrics[column]:{form}}"
            for column, form in {**columns, **_SPENT}.items()
            if column in event.metrics
        ]
        progress.step(name, event.step - reached, "".join(f", {one}" for one in told))
        reached = event.step

    return show
