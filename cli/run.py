"""`prefmill run`: the whole loop, begun or continued."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from ..base.errors import PrefmillError
from ..base.paths import user_path
from ..pipeline.budget import Budget
from ..pipeline.objects.address import is_address
from ..pipeline.objects.share import SharedRun, shared
from ..pipeline.prompts import PromptsConfig
from ..recipes.catalogue import load_recipe
from ..recipes.forecast import price_of
from ..recipes.recipe import BaseRecipe
from ..recipes.run import run_recipe
from ..recipes.saved import continued, has_recipe, prompts_of
from ..recipes.settings import override, validated
from .progress import watched
from .show import print_summary
from .show_time import print_taken


def run_command(
    recipe: str | None,
    to: str | None,
    prompts: str | None,
    limit: int | None,
    settings: Sequence[str],
    remake: str | None,
    discard: bool,
    train: bool,
    as_json: bool,
    money: float | None = None,
    hours: float | None = None,
    price: str | None = None,
    work: Path | None = None,
) -> None:
    """Begin or continue a run; stop before it takes more than so much money, or so many device hours."""
    with _place(recipe, to, work) as (folder, sharing):
        config = configuration(recipe, folder, prompts, limit, settings)
        paid = price_of(price, config.executor.price_per_device_hour)
        executor = config.executor.model_copy(update={"price_per_device_hour": paid})
        config, budget = config.model_copy(update={"executor": executor}), Budget.of(money, hours, paid)
        execute(folder, config, remake, as_json, discard, train, named(recipe, folder, settings), budget, sharing)


@contextlib.contextmanager
def _place(recipe: str | None, to: str | None, work: Path | None) -> Iterator[tuple[Path, SharedRun | None]]:
    """Yield a run's folder, and what publishes it where `to` is an address."""
    if to is not None and is_address(to):
        with shared(to, work) as sharing:
            if recipe is None and not has_recipe(sharing.folder):
                address = sharing.address
                raise PrefmillError(f"there is no run at {address} yet", f"prefmill run tiny --to {address}")
            yield sharing.folder, sharing
    elif work is not None:
        raise PrefmillError("--work is this machine's copy of a run at an address", "give --to s3://BUCKET/PREFIX")
    else:
        yield folder_for(recipe, None if to is None else user_path(to, "--to")), None


def execute(
    folder: Path,
    config: BaseRecipe,
    remake: str | None,
    as_json: bool,
    discard: bool = False,
    train: bool = True,
    words: str = "RECIPE",
    budget: Budget | None = None,
    sharing: SharedRun | None = None,
) -> None:
    """Bring a run to its end and print what it holds. Raises BudgetSpent, after that, where its budget stopped it."""
    began = time.monotonic()
    place = sharing.address if sharing else str(folder)
    with watched(f"prefmill run --to {place}") as progress:
        call = {"remake": remake, "discard": discard, "train": train, "words": words, "budget": budget}
        finished = run_recipe(folder, config, progress, **call, sharing=sharing)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        report = {"run": place, "report": str(finished.report), "wall_seconds": seconds}
        taken = [asdict(entry) for entry in finished.taken]
        typer.echo(json.dumps({**finished.summary, **report, "taken": taken, "stopped": str(finished.stopped or "")}))
    else:
        print_summary(finished.summary)
        print_taken(finished.taken)
        typer.echo(f"run:    {place}")
        typer.echo(f"report: {finished.report}")
    if finished.stopped:
        raise finished.stopped


def named(recipe: str | None, folder: Path, settings: Sequence[str]) -> str:
    """Return how a command line named a configuration, for advice."""
    return shlex.join([recipe or str(folder), *(word for setting in settings for word in ("--set", setting))])


def folder_for(recipe: str | None, to: Path | None) -> Path:
    """Return a run's folder: the one that was named, else runs/RECIPE."""
    if to is not None:
        return to
    if recipe is None:
        raise PrefmillError("neither a recipe nor a run was named", "prefmill run tiny --to runs/first")
    return Path("runs") / user_path(recipe, "the recipe").stem


def configuration(
    recipe: str | None, folder: Path, prompts: str | None, limit: int | None, settings: Sequence[str]
) -> BaseRecipe:
    """Return the recipe that was named, else the one the run was begun with, with the command's settings applied."""
    if recipe is not None:
        config = load_recipe(recipe)
    elif has_recipe(folder):
        config = continued(folder)
    else:
        raise PrefmillError(
            f"{folder} has no run.yaml to continue from", f"name a recipe: prefmill run tiny --to {folder}"
        )
    given = {key: value for key, value in (("path", prompts), ("limit", limit)) if value is not None}
    read = getattr(config, "prompts", None)
    if isinstance(read, PromptsConfig):
        if read.path is None and has_recipe(folder):  # the same command without its input continues with the same
            read = prompts_of(folder)
        config = config.model_copy(update={"prompts": validated(PromptsConfig, {**dict(read), **given})})
    elif given:
        raise PrefmillError("this recipe reads no prompts", "leave out --prompts and --limit")
    config = override(config, settings)
    read = getattr(config, "prompts", None)
    return config.model_copy(update={"prompts": _anywhere(read)}) if isinstance(read, PromptsConfig) else config


def _anywhere(prompts: PromptsConfig) -> PromptsConfig:
    """Return where prompts are as it is found from any folder, so that a run continues from any."""
    path = prompts.path
    if path is None or path.startswith("hub:") or not (file := user_path(path, "--prompts")).exists():
        return prompts
    return prompts.model_copy(update={"path": str(file.resolve())})
