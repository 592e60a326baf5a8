"""How much room a run will take, next to how much there is: an image is millions of pixels, an answer a few lines."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import PrefmillError
from ..base.paths import user_path
from ..engine.settings import MICRO_CHECKPOINTS, MICRO_PREFIX, RANDOM_PREFIX
from ..pipeline.generate_settings import GenerateConfig
from ..pipeline.store import Run
from .plan import PlannedStage
from .recipe import BaseRecipe, Recipe

BYTES_PER_PIXEL = {"png": 1.4, "webp": 1.0, "jpeg": 0.4}
"""Measured on eight generated photographs of 1024 x 1024 pixels; drawings take less, noise takes more."""
BYTES_PER_TOKEN = 5
_OFFICIAL_SIDE = 1024
_RANDOM_SIDE = 64  # at most: they are made on the spot, and small
_CLEARLY = 0.5  # of the estimate, which scenes of another kind can undercut


@dataclass(frozen=True)
class DiskEstimate:
    """Bytes that images and answers will take, and the bytes that are free now. `basis` says what it rests on."""

    images: int
    answers: int
    free: int
    basis: str

    @property
    def needed(self) -> int:
        """Both together."""
        return self.images + self.answers

    @property
    def tight(self) -> bool:
        """Whether the estimate does not fit."""
        return self.free < self.needed

    @property
    def clearly_short(self) -> bool:
        """Whether it would not fit either if the estimate were far too high."""
        return self.free < self.needed * _CLEARLY

    @property
    def text(self) -> str:
        """The estimate in a sentence."""
        return f"about {size_text(self.needed)} will be written ({self.basis}), {size_text(self.free)} are free"


def estimate_disk(run: Run, recipe: BaseRecipe, stages: list[PlannedStage]) -> DiskEstimate | None:
    """Return what the rest of a run takes; None where that is not known, or nothing is drawn or answered."""
    prompts = next((stage for stage in stages if stage.name == "prompts"), None)
    drawing = _drawing(recipe, stages)
    if prompts is None or prompts.inputs is None or not drawing:
        return None
    images, missing, basis = 0.0, 0, ""
    for stage, config in drawing:
        size, basis = _image_bytes(run, stage.name, config)
        missing = max(0, prompts.inputs - stage.done)
        images += missing * stage.fan_out * size
    if not images:
        return None
    answers = 0
    if isinstance(recipe, Recipe):
        answers = sum(responder.sampling.max_new_tokens for responder in recipe.responders) * recipe.instruct.per_image
    return DiskEstimate(round(images), missing * answers * BYTES_PER_TOKEN, free_bytes(run.folder), basis)


def _drawing(recipe: BaseRecipe, stages: list[PlannedStage]) -> list[tuple[PlannedStage, GenerateConfig]]:
    """Return the stages that draw, each with its settings."""
    planned = {stage.name: stage for stage in stages}
    entries = (entry for stage in recipe.STAGES for entry in stage.instances(recipe.settings_of(stage)).items())
    return [(planned[name], entry) for name, entry in entries if isinstance(entry, GenerateConfig) and name in planned]


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that a folder is, or will be, on."""
    return shutil.disk_usage(nearest(folder)).free


def _image_bytes(run: Run, name: str, config: GenerateConfig) -> tuple[float, str]:
    """Return the bytes of one image: this run's own mean where it has drawn some, else by the pixels."""
    manifest, folder = run.manifest(name), run.folder / name
    if rows := manifest.get("outputs"):
        return sum(file.stat().st_size for file in folder.glob("*.parquet")) / rows, "like the images of this run"
    side = default_side(config.model)
    width, height = config.width or side, config.height or side
    return width * height * BYTES_PER_PIXEL[config.format], f"images of {width} x {height} pixels"


def default_side(source: str) -> int:
    """Return the side in pixels that a checkpoint draws at; that of the official one where it is not on this disk."""
    if source.startswith(RANDOM_PREFIX):
        return _RANDOM_SIDE
    try:
        micro = source.startswith(MICRO_PREFIX)
        folder = MICRO_CHECKPOINTS / source.removeprefix(MICRO_PREFIX) if micro else user_path(source, "the checkpoint")
        sample = json.loads((folder / "transformer" / "config.json").read_text())["sample_size"]
        blocks = json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"]
        return int(sample) * 2 ** (len(blocks) - 1)
    except (OSError, ValueError, KeyError, TypeError, PrefmillError):
        return _OFFICIAL_SIDE


def size_text(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
