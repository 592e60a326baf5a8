"""`prefmill annotate`: ratings and preferences of the images of a run, and what there is to know of them."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json, Remake, RunFolder, Settings

if TYPE_CHECKING:
    from rich.table import Table


def annotate_command(
    folder: RunFolder,
    recipe: Annotated[
        str | None, typer.Option(help="a recipe that annotates; by default as before, else visionprefer")
    ] = None,
    settings: Settings = None,
    remake: Remake = None,
    humans: Annotated[
        str | None, typer.Option(help="a table of images that people compared: chosen, rejected and optionally aspect")
    ] = None,
    as_json: Json = False,
) -> None:
    """Have the images of a run rated by chat models, and make preferences of it. Continues where it stopped."""
    from ..pipeline.stages.prefer import STAGE as PREFER
    from ..pipeline.store import Run
    from ..recipes.annotate import agreement_with, annotate_run, annotation_recipe
    from ..recipes.settings import override
    from .progress import watched
    from .show import print_summary

    Run.open(folder)
    config = override(annotation_recipe(folder, recipe), settings or [])
    began = time.monotonic()
    with watched() as progress:
        finished = annotate_run(folder, config, progress, remake=remake)
        statistics = dict(finished.summary["stages"][PREFER.name].get("measures", {}))
        if humans is not None:
            statistics["agreement with people"], unused = agreement_with(humans, folder, config)
            for reason, count in unused.items():
                progress.notice(f"{humans}: {count} rows are left out: {reason}")
    if as_json:
        told = {"run": str(folder), "report": str(finished.report), "wall_seconds": round(time.monotonic() - began, 1)}
        typer.echo(json.dumps({**finished.summary, "statistics": statistics, **told}))
        return
    stages = {name: {**stage, "measures": {}} for name, stage in finished.summary["stages"].items()}
    print_summary({**finished.summary, "stages": stages})
    print_statistics(statistics)
    typer.echo(f"report: {finished.report}")


def print_statistics(statistics: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print a table for each measure: what is measured, and its numbers."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 100_000, highlight=False)
    for measure, things in statistics.items():
        console.print()
        console.print(_table(measure, things))


def _table(measure: str, things: dict[str, dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from ..base.text import printable

    names = list(dict.fromkeys(name for numbers in things.values() for name in numbers))
    table = Table(box=None, pad_edge=False)
    table.add_column(Text(measure, style="bold"))
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for thing, numbers in things.items():
        table.add_row(Text(printable(thing)), *(_number(numbers.get(name)) for name in names))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,d}" if isinstance(value, int) else f"{value:.3f}"
