"""Loss curves in TensorBoard, Trackio or Weights & Biases, beside our own metrics.jsonl.

All of them write into the output folder, and a training that continues goes on with the curve that it began. Nothing
leaves the machine unless an environment variable says so: WANDB_API_KEY or WANDB_MODE, TRACKIO_SPACE_ID.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .launch_settings import LaunchSettings

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from .job import TrainingJob

TENSORBOARD = "tensorboard"


def tracking_environment(config: LaunchSettings, output: Path) -> dict[str, str]:
    """Return what the libraries are told by environment variables, those that are set already left as they are."""
    wanted: dict[str, str] = {}
    if "wandb" in config.report_to:
        wanted |= {
            "WANDB_DIR": str(output),
            "WANDB_MODE": "online" if os.environ.get("WANDB_API_KEY") else "offline",
            "WANDB_PROJECT": "prefmill",
            "WANDB_RUN_ID": hashlib.sha256(str(output).encode()).hexdigest()[:16],
            "WANDB_RESUME": "allow",
        }
    if "trackio" in config.report_to:
        wanted |= {"TRACKIO_DIR": str(output / "trackio"), "GRADIO_ANALYTICS_ENABLED": "False"}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def tracking_arguments(job: TrainingJob) -> dict[str, Any]:
    """Return keyword arguments of transformers.TrainingArguments."""
    named = [name for name in job.config.report_to if name != TENSORBOARD]  # which is a callback of its own, below
    arguments: dict[str, Any] = {"report_to": named or "none", "run_name": job.output.name}
    if "trackio" in named:
        space = os.environ.get("TRACKIO_SPACE_ID")
        arguments |= {"project": "prefmill", "trackio_space_id": space, "trackio_static_space_id": False}
    return arguments


def tracking_callbacks(job: TrainingJob) -> list[TrainerCallback]:
    """Return what writes for TensorBoard, where that is wanted."""
    if TENSORBOARD not in job.config.report_to:
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    if os.environ.get("RANK", "0") != "0":
        return []
    # steps that a kill threw away are in an older file, and readers drop them
    purge = job.resume.step + 1 if job.resume else None
    return [TensorBoardCallback(SummaryWriter(str(job.output / TENSORBOARD), purge_step=purge))]
