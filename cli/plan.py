"""`prefmill plan`: what `prefmill run` with the same arguments would do, and what stands in its way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from ..base.text import printable
from ..recipes.preflight import RunPlan, plan_run
from .run import configuration, folder_for, named


def plan_command(
    recipe: str | None,
    to: Path | None,
    prompts: str | None,
    limit: int | None,
    settings: Sequence[str],
    remake: str | None,
    discard: bool,
    train: bool,
    as_json: bool,
) -> None:
    """Print the plan. Raises PrefmillError, after it, with what stands in the way."""
    folder = folder_for(recipe, to)
    config = configuration(recipe, folder, prompts, limit, settings)
    words = named(recipe, folder, settings)
    plan = plan_run(folder, config, remake=remake, discard=discard, train=train, words=words)
    if as_json:
        typer.echo(json.dumps(plan.to_json()))
    else:
        _print(plan)
    plan.require_sound()


def _print(plan: RunPlan) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "inputs", "done", "missing", "state", "device hours"):
        table.add_column(heading, justify="left" if heading in {"stage", "state"} else "right")
    for stage in plan.stages:
        hours = "" if stage.seconds is None or stage.missing == 0 else f"{stage.seconds / 3600:.2f}"
        later = "later" if stage.expected is None else f"about {stage.expected}"
        table.add_row(
            stage.name,
            later if stage.inputs is None else str(stage.inputs),
            str(stage.done),
            "" if stage.missing is None else str(stage.missing),
            stage.state,
            hours,
        )
    for training in plan.trainings:
        table.add_row(training, "", "", "", "begins", "")
    Console().print(table, markup=False)
    for model in plan.models:
        typer.echo(printable(f"{model.setting}: {model.source} ({model.where})"))
    if plan.disk is not None:
        typer.echo(printable(f"disk: {plan.disk.text}"))
    if any(stage.missing != 0 for stage in plan.stages):
        unknown = "unknown until this run has measured every stage"
        hours = unknown if plan.device_hours is None else f"{plan.device_hours:.2f}"
        typer.echo(f"device hours: {hours}{'' if plan.cost is None else f', cost {plan.cost:.2f}'}")
    for note in plan.notes:
        typer.echo(printable(f"note: {note}"))
    if not plan.problems:
        typer.echo(f"nothing stands in the way: {printable(str(plan.folder))}")
