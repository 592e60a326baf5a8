"""`prefmill plan`: what `prefmill run` with the same arguments would do and take, and what stands in its way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from ..base.text import printable
from ..recipes.disk import size_text
from ..recipes.forecast import Forecast, StageForecast, forecast, price_of
from ..recipes.preflight import RunPlan, plan_run
from ..recipes.rates import Figure
from .run import configuration, folder_for, named

_UNBOUNDED = 100_000  # columns where nobody looks at a screen


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
    gpu: str | None = None,
    count: int = 1,
    price: str | None = None,
    sources: Sequence[Path] = (),
) -> None:
    """Print the plan. Raises PrefmillError, after it, with what stands in the way."""
    folder = folder_for(recipe, to)
    config = configuration(recipe, folder, prompts, limit, settings)
    words = named(recipe, folder, settings)
    paid = price_of(price, config.executor.price_per_device_hour)
    plan = plan_run(folder, config, remake=remake, discard=discard, train=train, words=words)
    expected = forecast(plan, config, gpu=gpu, count=count, price=paid, sources=sources)
    if as_json:
        told = expected.to_json()
        totals = {name: told[name] for name in ("device_hours", "wall_hours", "cost")}
        typer.echo(json.dumps({**plan.to_json(), "forecast": told, **totals}))
    else:
        _print(plan, expected)
    plan.require_sound()


def _print(plan: RunPlan, expected: Forecast) -> None:
    console = Console(width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False)
    console.print(_stages(plan, expected), markup=False)
    for model in plan.models:
        typer.echo(printable(f"{model.setting}: {model.source} ({model.where})"))
    if plan.disk is not None:
        typer.echo(printable(f"disk: {plan.disk.text}"))
    if any(stage.missing != 0 for stage in plan.stages) or plan.trainings:
        for line in (*_totals(expected), *_sources(expected)):
            typer.echo(printable(line))
    for note in (*expected.notes, *plan.notes):
        typer.echo(printable(f"note: {note}"))
    if not plan.problems:
        typer.echo(f"nothing stands in the way: {printable(str(plan.folder))}")


def _stages(plan: RunPlan, expected: Forecast) -> Table:
    table = Table(box=None, pad_edge=False)
    left = {"stage", "state", "basis"}
    headings = ("stage", "inputs", "done", "missing", "state", "loads", "memory", "device h", "wall h", "cost", "bytes")
    for heading in (*headings, "basis"):
        table.add_column(heading, justify="left" if heading in left else "right")
    coming = {stage.name: stage for stage in expected.stages}
    for stage in plan.stages:
        one = coming.get(stage.name)
        about = "later" if one is None or one.missing is None else f"about {one.missing + stage.done}"
        counts = (about if stage.inputs is None else str(stage.inputs), str(stage.done))
        missing = "" if stage.missing is None else str(stage.missing)
        table.add_row(stage.name, *counts, missing, stage.state, *_cells(one, expected))
    for name in plan.trainings:
        table.add_row(name, "", "", "", "begins", *_cells(coming.get(name), expected))
    return table


def _cells(stage: StageForecast | None, expected: Forecast) -> tuple[str, ...]:
    if stage is None:
        return ("",) * 7
    hours = [None if seconds is None else seconds / 3600 for seconds in (stage.held, stage.wall)]
    cost = None if hours[0] is None or expected.price is None else hours[0] * expected.price
    loads = f"{stage.loads} x {stage.load.value:.1f} s" if stage.load and stage.loads else str(stage.loads or "")
    size = [size_text(figure.value) if figure else "" for figure in (stage.memory, stage.written)]
    told = ["" if value is None else f"{value:.4f}" for value in hours]
    return loads, size[0], *told, "" if cost is None else f"{cost:.2f}", size[1], _basis(stage.rate, stage.load)


def _basis(*figures: Figure | None) -> str:
    known = [figure for figure in figures if figure is not None]
    return " and ".join(dict.fromkeys("measured" if figure.measured else "estimated" for figure in known))


def _sources(expected: Forecast) -> Iterator[str]:
    """Yield a line for each thing that figures of time and memory rest on."""
    owners: dict[str, list[str]] = {}
    for stage in expected.stages:
        for figure in (stage.rate, stage.load, stage.memory):
            if figure is not None:
                text = f"{'measured' if figure.measured else 'estimated'}: {figure.source}"
                owners.setdefault(text, []).append(stage.name)
    for text, names in owners.items():
        yield f"{text} ({', '.join(dict.fromkeys(names))})"


def _totals(expected: Forecast) -> list[str]:
    if expected.device_hours is None or expected.wall_hours is None:
        missing, verb = ", ".join(expected.unknown), "has" if len(expected.unknown) == 1 else "have"
        cure = "run a few prompts first (--limit 8) and name that run with --from"
        if expected.gpu is None:
            cure += ", or name a GPU for estimates (--gpu a100)"
        return [f"device hours: unknown until {missing} {verb} been measured: {cure}"]
    devices = f"{expected.count} x {expected.gpu or 'this device'}"
    told = [f"device hours: {expected.device_hours:.4g} ({devices}), wall time {expected.wall_hours:.4g} h"]
    if expected.cost is not None:
        told[0] += f", cost {expected.cost:.2f}"
    if not all(stage.measured for stage in expected.stages):
        told.append("some of this is estimated, not measured: the last column says which")
    return told
