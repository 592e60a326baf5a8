"""A training's events as progress."""

from __future__ import annotations

from pathlib import Path

from ..base.progress import Progress
from .adapter_training import train
from .events import TrainingEvent
from .manifest import AdapterManifest
from .settings import DPOTrainingConfig


def train_with_progress(
    run_folder: Path, output: Path, config: DPOTrainingConfig, progress: Progress, name: str = "training"
) -> AdapterManifest:
    """Train and report every step, and return the adapter's manifest."""
    reached: int | None = None

    def show(event: TrainingEvent) -> None:
        nonlocal reached
        if event.kind != "step":
            progress.line(f"{name}: {event.message}")
            return
        if reached is None:
            reached = event.step - 1
            progress.begin(name, event.steps, reached, "steps")
        loss = event.metrics.get("loss", float("nan"))
        accuracy = event.metrics.get("rewards/accuracies", float("nan"))
        hours, dollars = (event.metrics.get(key) for key in ("device_hours", "dollars"))
        spent = "" if hours is None else f", {hours:.2f} device hours"
        spent += "" if dollars is None else f", {dollars:.2f} dollars"
        progress.step(name, event.step - reached, f", loss {loss:.4f}, accuracy {accuracy:.2f}{spent}")
        reached = event.step

    return train(run_folder, output, config, show)
