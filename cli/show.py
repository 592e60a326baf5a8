"""`prefmill show`: what a run holds, for people (tables) and for machines (--json)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from ..base.errors import PrefmillError
from ..pipeline.records import Record, Reject
from ..pipeline.store import Run
from ..pipeline.summary import record_type_of, stage_names, summarize


def show_command(folder: Path, stage: str | None, rejects: bool, rows: int, as_json: bool) -> None:
    """Show a run, or the rows or rejects of its stages."""
    run = Run.open(folder)
    names = stage_names(run)
    if stage is not None and stage not in names:
        raise PrefmillError(f"{folder} has no stage {stage!r}", f"choose one of {', '.join(names)}")
    if rejects:
        found = [reject for name in ([stage] if stage else names) for reject in _dataset(run, name).rejects()]
        _print_rows([asdict(reject) for reject in found], as_json)
    elif stage is not None:
        _print_rows([_presentable(row) for row in _dataset(run, stage).read(0, rows)], as_json)
    elif as_json:
        typer.echo(json.dumps(summarize(run)))
    else:
        print_summary(summarize(run))


def _dataset(run: Run, stage: str) -> Any:
    return run.dataset(stage, record_type_of(stage))


def _presentable(row: Record | Reject) -> dict[str, Any]:
    values = asdict(row)
    return {key: f"{len(value):,} bytes" if isinstance(value, bytes) else value for key, value in values.items()}


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    for row in rows:
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False))
        else:
            typer.echo("  ".join(f"{key}={_short(value)}" for key, value in row.items() if value not in (None, "")))
    if not rows and not as_json:
        typer.echo("none")


def _short(value: Any) -> str:
    text = str(value).replace("\n", " ")
    return text if len(text) <= 100 else text[:97] + "..."


def print_summary(summary: dict[str, Any]) -> None:
    """Print a run's stages as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "inputs", "rows", "rejected", "device s", "models"):
        table.add_column(heading, justify="right" if heading in {"inputs", "rows", "device s"} else "left")
    for name, stage in summary["stages"].items():
        rejects = ", ".join(f"{count} {reason}" for reason, count in stage["rejects"].items())
        state = "" if stage["complete"] else " (unfinished)"
        origin = "imported" if stage["imported"] else ", ".join(stage["models"])
        table.add_row(
            name + state, str(stage["inputs"]), str(stage["outputs"]), rejects, f"{stage['seconds']:.1f}", origin
        )
    Console().print(table, markup=False)
    cost = "" if summary["cost"] is None else f", cost {summary['cost']:.2f}"
    typer.echo(f"device hours {summary['device_hours']:.4f}{cost}")
    if "training" in summary:
        training = summary["training"]
        loss = f"loss {training['loss']['first']:.4f} -> {training['loss']['last']:.4f}"
        typer.echo(f"adapter: {training['adapter']} ({training['steps']} steps on {training['pairs']} pairs, {loss})")
