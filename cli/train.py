"""`prefmill train`: LoRA DPO on the pairs of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..base.errors import PrefmillError
from ..pipeline.store import Run
from ..recipes.catalogue import load_recipe
from ..recipes.recipe import Recipe
from ..recipes.saved import has_recipe, training_of
from ..recipes.settings import override
from ..train.nodes import this_node
from ..train.progress import train_with_progress
from ..train.settings import DPOTrainingConfig
from .progress import watched
from .train_plan import print_training_plan

if TYPE_CHECKING:
    from ..bench.training_check import TrainingCheck


@dataclass(frozen=True)
class EvaluationOptions:
    """The options of `--eval`."""

    name: str | None = None
    questions: Path | None = None
    images: Path | None = None
    count: int | None = None

    def check(self) -> TrainingCheck | None:
        """Return what is asked after the training; None for nothing. Raises PrefmillError for what is not there."""
        if self.name is None:
            if self.questions or self.images or self.count:
                raise PrefmillError("--eval-questions, --eval-images and --eval-count belong to --eval", "give --eval")
            return None
        from ..bench.training_check import TrainingCheck

        return TrainingCheck.of(self.name, self.questions, self.images, self.count)


def train_command(
    folder: Path,
    to: Path | None,
    recipe: str | None,
    settings: Sequence[str],
    plan: bool,
    gpu: str | None,
    as_json: bool,
    evaluation: EvaluationOptions = EvaluationOptions(),
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
    check = evaluation.check()
    with watched(f"prefmill train {folder} --to {output}") as progress:
        manifest = train_with_progress(folder, output, config, progress)
        if check is not None and this_node(config).is_first:
            from ..bench.training_check import check_training

            manifest = check_training(check, output, manifest, progress)
    if as_json:
        typer.echo(manifest.model_dump_json())
        return
    if check is not None and manifest.evaluation is not None:
        _print_evaluation(manifest.evaluation)
    typer.echo(f"adapter: {output / 'adapter'}")


def _print_evaluation(found: Mapping[str, Any]) -> None:
    """The measures before and after, and how sure the difference is."""
    typer.echo(f"{found['benchmark']}, {found['n']} items: before -> after")
    for name, (before, after) in found["measures"].items():
        low, high = found.get("change", {}).get(name, (None, None))
        change = "" if low is None or high is None else f"  [{low:+.3f}, {high:+.3f}]"
        typer.echo(f"  {name:<32} {_share(before)} -> {_share(after)}{change}")
    typer.echo(f"  mended {found['mended']}, broken {found['broken']}, McNemar p {found['mcnemar_p']:.2g}")
    if note := found.get("note"):
        typer.echo(f"  note: {note}")


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _configuration(folder: Path, recipe: str | None, settings: Sequence[str]) -> DPOTrainingConfig:
    config = load_recipe(recipe).train if recipe is not None else None
    if recipe is None and has_recipe(folder):
        config = training_of(folder)
    prefixed = [setting if setting.startswith("train.") else f"train.{setting}" for setting in settings]
    result = override(Recipe(train=config or DPOTrainingConfig()), prefixed).train
    if result is None:
        raise PrefmillError("--set train=null leaves nothing to train", "leave it out")
    return result
