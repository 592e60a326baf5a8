"""`prefmill train`: LoRA DPO on the pairs of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from ..base.errors import PrefmillError
from ..pipeline.store import Run
from ..recipes.catalogue import load_recipe
from ..recipes.recipe import Recipe
from ..recipes.saved import has_recipe, training_of
from ..recipes.settings import override
from ..train.progress import train_with_progress
from ..train.settings import DPOTrainingConfig
from .progress import watched
from .train_plan import print_training_plan


def train_command(
    folder: Path,
    to: Path | None,
    recipe: str | None,
    settings: Sequence[str],
    plan: bool,
    gpu: str | None,
    as_json: bool,
) -> None:
    """Train, or continue to, and print where the adapter is; with `plan`, print what it would take."""
    if gpu is not None and not plan:
        raise PrefmillError("--gpu is for the hours and the cost of a plan", "give --plan as well, or leave it out")
    Run.open(folder)
    output = to or folder / "training"
    config = _configuration(folder, recipe, settings)
    if plan:
        print_training_plan(folder, config, gpu, as_json)
        return
    with watched(f"prefmill train {folder} --to {output}") as progress:
        manifest = train_with_progress(folder, output, config, progress)
    typer.echo(manifest.model_dump_json() if as_json else f"adapter: {output / 'adapter'}")


def _configuration(folder: Path, recipe: str | None, settings: Sequence[str]) -> DPOTrainingConfig:
    config = load_recipe(recipe).train if recipe is not None else None
    if recipe is None and has_recipe(folder):
        config = training_of(folder)
    prefixed = [setting if setting.startswith("train.") else f"train.{setting}" for setting in settings]
    result = override(Recipe(train=config or DPOTrainingConfig()), prefixed).train
    if result is None:
        raise PrefmillError("--set train=null leaves nothing to train", "leave it out")
    return result
