"""`prefmill run` and `prefmill demo`: the whole loop, begun or continued."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from ..base.errors import PrefmillError
from ..pipeline.prompts import demo_prompts
from ..recipes.catalogue import load_recipe
from ..recipes.recipe import Recipe
from ..recipes.run import run_recipe
from ..recipes.settings import from_yaml, override
from .progress import watched
from .show import print_summary


def run_command(
    recipe: str | None,
    to: Path | None,
    prompts: str | None,
    limit: int | None,
    settings: Sequence[str],
    remake: str | None,
    train: bool,
    as_json: bool,
) -> None:
    """Begin or continue a run."""
    if to is None:
        if recipe is None:
            raise PrefmillError("neither a recipe nor a run was named", "prefmill run tiny --to runs/first")
        to = Path("runs") / Path(recipe).stem
    config = _configuration(recipe, to, prompts, limit, settings)
    execute(to, config if train else config.model_copy(update={"train": None}), remake, as_json)


def demo_command(to: Path, as_json: bool) -> None:
    """Run the embedded default on the embedded prompts."""
    typer.echo(
        "The demo runs the whole loop with tiny random checkpoints, made on the spot: "
        "every step is real, and its images and answers mean nothing.",
        err=True,
    )
    execute(to, override(load_recipe("tiny"), [f"prompts.path={demo_prompts()}"]), None, as_json)


def execute(folder: Path, config: Recipe, remake: str | None, as_json: bool) -> None:
    """Bring a run to its end and print what it holds."""
    began = time.monotonic()
    with watched(f"prefmill run --to {folder}") as progress:
        finished = run_recipe(folder, config, progress, remake)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        report = {"run": str(folder), "report": str(finished.report), "wall_seconds": seconds}
        typer.echo(json.dumps({**finished.summary, **report}))
        return
    print_summary(finished.summary)
    typer.echo(f"run:    {folder}")
    typer.echo(f"report: {finished.report}")


def _configuration(
    recipe: str | None, folder: Path, prompts: str | None, limit: int | None, settings: Sequence[str]
) -> Recipe:
    saved = folder / "run.yaml"
    if recipe is not None:
        config = load_recipe(recipe)
        if prompts is None and saved.exists():  # the same command without its input continues with the same input
            before = from_yaml(Recipe, saved.read_text(encoding="utf-8"), str(saved))
            config = config.model_copy(update={"prompts": before.prompts})
    elif saved.exists():
        config = from_yaml(Recipe, saved.read_text(encoding="utf-8"), str(saved))
    else:
        raise PrefmillError(
            f"{folder} has no run.yaml to continue from", f"name a recipe: prefmill run tiny --to {folder}"
        )
    if prompts is not None and Path(prompts).exists():
        prompts = str(Path(prompts).resolve())  # so that the run continues from any folder
    given = [] if prompts is None else [f"prompts.path={json.dumps(prompts)}"]
    given += [] if limit is None else [f"prompts.limit={limit}"]
    return override(config, [*given, *settings])
