"""`prefmill train`: LoRA DPO on the pairs of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from ..pipeline.store import Run
from ..recipes.catalogue import load_recipe
from ..recipes.recipe import Recipe
from ..recipes.settings import from_yaml, override
from ..train.events import TrainingEvent
from ..train.launch import train
from ..train.manifest import AdapterManifest
from ..train.settings import DPOTrainingConfig
from .progress import ConsoleProgress, watched


def train_command(folder: Path, to: Path | None, recipe: str | None, settings: Sequence[str], as_json: bool) -> None:
    """Train, or continue to, and print where the adapter is."""
    Run.open(folder)
    output = to or folder / "training"
    config = _configuration(folder, recipe, settings)
    with watched(f"prefmill train {folder} --to {output}") as progress:
        manifest = train_with_progress(folder, output, config, progress)
    typer.echo(manifest.model_dump_json() if as_json else f"adapter: {output / 'adapter'}")


def train_with_progress(
    run_folder: Path, output: Path, config: DPOTrainingConfig, progress: ConsoleProgress, name: str = "training"
) -> AdapterManifest:
    """Train with a progress bar, and return the adapter's manifest."""
    reached: int | None = None

    def show(event: TrainingEvent) -> None:
        nonlocal reached
        if event.kind != "step":
            progress.line(f"{name}: {event.message}")
            return
        if reached is None:
            reached = event.step - 1
            progress.begin(name, event.steps, reached)
        loss = event.metrics.get("loss", float("nan"))
        accuracy = event.metrics.get("rewards/accuracies", float("nan"))
        progress.step(name, event.step - reached, "steps", f", loss {loss:.4f}, accuracy {accuracy:.2f}")
        reached = event.step

    return train(run_folder, output, config, show)


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
