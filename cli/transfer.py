"""`prefmill import` and `prefmill export`: runs to and from other people's formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from ..base.errors import PrefmillError
from ..pipeline.exchange.exporting import export
from ..pipeline.exchange.importing import ImportSpec, import_into
from ..pipeline.execute.work import ExecutorConfig
from ..pipeline.store import Run
from ..pipeline.summary import summarize
from ..recipes.settings import validated
from .progress import watched
from .show import print_summary

FORMATS = ("trl", "pds-dpo", "llava")


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
    typer.echo(f"next: prefmill train {folder}" if spec.pairs else f"next: prefmill run imported --to {folder}")


def export_command(folder: Path, to: Path, format: str, as_json: bool) -> None:
    """Export a run's pairs."""
    if format not in FORMATS:
        raise PrefmillError(f"there is no export format {format!r}", f"choose --format {', '.join(FORMATS)}")
    report = export(Run.open(folder), to, format)  # pyright: ignore[reportArgumentType] - checked above
    result = {"pairs": report.pairs, "images": report.images, "path": str(report.path)}
    typer.echo(json.dumps(result) if as_json else f"{report.pairs} pairs, {report.images} images -> {report.path}")
