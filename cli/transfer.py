"""`prefmill import` and `prefmill export`: runs to and from other people's formats."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from ..base.errors import PrefmillError
from ..pipeline.exchange.exporting import export
from ..pipeline.exchange.image_preferences import IMAGE_PREFERENCE_FORMATS, export_image_preferences
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
    if spec.image_preferences:
        typer.echo(f"next: prefmill train reward {folder}")
    else:
        typer.echo(f"next: prefmill train {folder}" if spec.pairs else f"next: prefmill run imported --to {folder}")


def export_command(folder: Path, to: Path, format: str, as_json: bool) -> None:
    """Export a run's pairs, or its preferences between images."""
    run = Run.open(folder)
    if format in FORMATS:
        report = export(run, to, format)  # pyright: ignore[reportArgumentType] - checked above
        result = {"pairs": report.pairs, "images": report.images, "path": str(report.path)}
        typer.echo(json.dumps(result) if as_json else f"{report.pairs} pairs, {report.images} images -> {report.path}")
        return
    if format not in IMAGE_PREFERENCE_FORMATS:
        known = ", ".join((*FORMATS, *IMAGE_PREFERENCE_FORMATS))
        raise PrefmillError(f"there is no export format {format!r}", f"choose --format {known}")
    found = export_image_preferences(run, to, format)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "path": str(found.path)}))
        return
    unit = "pairs" if format == "image-pairs" else "ranked prompts"
    typer.echo(f"{found.rows} {unit}, {found.images} images -> {found.path}")
    for reason, count in found.left_out.items():
        typer.echo(f"left out: {count} prompts {reason}")
    if found.untied:
        typer.echo(f"{found.untied} pairs of images without a preference had to be ordered")
