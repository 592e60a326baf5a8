"""`prefmill import`: images, answers, pairs and preferences of other people into a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from ..pipeline.exchange.importing import ImportSpec, import_into
from ..pipeline.execute.work import ExecutorConfig
from ..pipeline.store import Run
from ..pipeline.summary import summarize
from ..recipes.settings import validated
from .progress import watched
from .show import print_summary


def import_command(folder: Path, given: dict[str, Any], as_json: bool) -> None:
    """Import into a run and print what it holds now."""
    spec = validated(ImportSpec, {key: value for key, value in given.items() if value is not None})
    with watched("the same command") as progress, Run.writing(folder) as run:
        import_into(run, spec, ExecutorConfig(), progress)
        summary = summarize(run)
    if as_json:
        typer.echo(json.dumps({**summary, "run": str(folder)}))
        return
    print_summary(summary)
    typer.echo(f"run: {folder}")
    if spec.image_preferences:
        typer.echo(f"next: prefmill train reward {folder}")
    else:
        typer.echo(f"next: prefmill train {folder}" if spec.pairs else f"next: prefmill run imported --to {folder}")
