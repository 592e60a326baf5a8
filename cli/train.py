"""`prefmill train`: LoRA DPO on the pairs of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from ..pipeline.store import Run
from ..recipes.catalogue import load_recipe
from ..recipes.recipe import Recipe
from ..recipes.settings import from_yaml, override
from ..train.progress import train_with_progress
from ..train.settings import DPOTrainingConfig
from .progress import watched


def train_command(folder: Path, to: Path | None, recipe: str | None, settings: Sequence[str], as_json: bool) -> None:
    """Train, or continue to, and print where the adapter is."""
    Run.open(folder)
    output = to or folder / "training"
    config = _configuration(folder, recipe, settings)
    with watched(f"prefmill train {folder} --to {output}") as progress:
        manifest = train_with_progress(folder, output, config, progress)
    typer.echo(manifest.model_dump_json() if as_json else f"adapter: {output / 'adapter'}")


def _configuration(folder: Path, recipe: str | None, settings: Sequence[str]) -> DPOTrainingConfig:
    saved = folder / "run.yaml"
    config = None
    if recipe is not None:
        config = load_recipe(recipe)
    elif saved.exists():
        config = from_yaml(Recipe, saved.read_text(encoding="utf-8"), str(saved))
    config = config or Recipe()
    prefixed = [setting if setting.startswith("train.") else f"train.{setting}" for setting in settings]
    filled = config if config.train else config.model_copy(update={"train": DPOTrainingConfig()})
    result = override(filled, prefixed).train
    assert result is not None
    return result
