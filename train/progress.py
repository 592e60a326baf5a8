"""An adapter's training with its progress on a screen."""

from __future__ import annotations

from pathlib import Path

from ..base.progress import Progress
from .adapter_training import train
from .manifest import AdapterManifest
from .settings import DPOTrainingConfig
from .shown import shown


def train_with_progress(
    run_folder: Path, output: Path, config: DPOTrainingConfig, progress: Progress, name: str = "training"
) -> AdapterManifest:
    """Train and report every step, and return the adapter's manifest."""
    return train(run_folder, output, config, shown(progress, name, {"loss": ".4f", "rewards/accuracies": ".2f"}))
