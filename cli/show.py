"""`prefmill show`: what a run holds, for people (tables) and for machines (--json)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.errors import PrefmillError
from ..base.text import printable
from ..pipeline.records import Record, Reject
from ..pipeline.store import Dataset, Run
from ..pipeline.summary import record_type_of, stage_names, summarize
from .show_time import print_device_time

_WHOLE = {"source"}  # paths and names: half of one is of no use
_SHORTENED = 100  # characters of a text on a terminal
_UNBOUNDED = 100_000  # columns where nobody looks at a screen


def show_command(folder: Path, stage: str | None, rejects: bool, rows: int, as_json: bool) -> None:
    """Show a run, or the first `rows` rows or rejects of its stages."""
    run = Run.open(folder)
    names = stage_names(run)
    if stage is not None and stage not in names:
        raise PrefmillError(f"{folder} has no stage {stage!r}", f"choose one of {', '.join(names)}")
    if rows < 0:
        raise PrefmillError(f"there are no {rows} rows to show", "give --rows a number from 0")
    if rejects:
        found = chain.from_iterable(_dataset(run, name).rejects() for name in ([stage] if stage else names))
        _print_rows((asdict(reject) for reject in found), rows, as_json)
    elif stage is not None:
        _print_rows(_presentable(_dataset(run, stage)), rows, as_json)
    elif as_json:
        _echo_json(summarize(run))
    else:
        print_summary(summarize(run))


def _measures(measures: dict[str, Any]) -> Iterator[str]:
    """What stages measured of their rows, a line for each thing measured."""
    for measure, things in measures.items():
        for thing, numbers in things.items():
            told = [
                f"{name.replace('_', ' ')} {'unknown' if value is None else f'{value:.3g}'}"
                for name, value in numbers.items()
            ]
            yield f"{measure} of {thing}: {', '.join(told)}"


def _dataset(run: Run, stage: str) -> Dataset[Any]:
    dataset = run.dataset(stage, record_type_of(stage))
    for shard in dataset.conflicts:
        notice = f"note: {shard.path} claims inputs that another shard holds; it is left out, and the next run moves it"
        typer.echo(printable(notice), err=True)
    return dataset


def _presentable(rows: Iterable[Record | Reject]) -> Iterator[dict[str, Any]]:
    for row in rows:
        values = asdict(row)
        yield {key: f"{len(value):,} bytes" if isinstance(value, bytes) else value for key, value in values.items()}


def _print_rows(rows: Iterator[dict[str, Any]], most: int, as_json: bool) -> None:
    shown = 0
    for row in islice(rows, most):
        shown += 1
        if as_json:
            _echo_json(row)
        else:
            values = {key: value for key, value in row.items() if value not in (None, "")}
            typer.echo("  ".join(f"{key}={_short(key, value)}" for key, value in values.items()))
    if next(rows, None) is not None:
        typer.echo(f"the first {shown}; for more, add --rows", err=True)
    elif not shown and not as_json:
        typer.echo("none")


def _short(key: str, value: Any) -> str:
    text = printable(str(value).replace("\n", " "))
    is_whole = len(text) <= _SHORTENED or key in _WHOLE or not sys.stdout.isatty()
    return text if is_whole else text[: _SHORTENED - 3] + "..."


def _echo_json(value: dict[str, Any]) -> None:
    typer.echo(printable(json.dumps(value, ensure_ascii=False)))


def print_summary(summary: dict[str, Any]) -> None:
    """Print a run's stages as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "inputs", "rows", "rejected", "device s", "models"):
        justify = "right" if heading in {"inputs", "rows", "device s"} else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    for name, stage in summary["stages"].items():
        rejects = ", ".join(f"{count} {reason}" for reason, count in stage["rejects"].items())
        state = "" if stage["complete"] else " (unfinished)"
        origin = "imported" if stage["imported"] else ", ".join(stage["models"])
        numbers = str(stage["inputs"]), str(stage["outputs"])
        cells = (name + state, *numbers, rejects, f"{stage['seconds']:.1f}", origin)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False).print(table)
    print_device_time(summary["ledger"])
    for name, stage in summary["stages"].items():
        if stage["usage"]:
            typer.echo(printable(f"{name}: {_usage(stage['usage'])}"))
        for line in _measures(stage.get("measures", {})):
            typer.echo(printable(f"{name}: {line}"))
    cost = "" if summary["cost"] is None else f", cost {summary['cost']:.2f}"
    typer.echo(f"device hours {summary['device_hours']:.4f}{cost}")
    if "training" in summary:
        training = summary["training"]
        first, last = (f"{value:.4f}" if value is not None else "?" for value in training["loss"].values())
        what = f"{training['steps']} steps on {training['pairs']} pairs, loss {first} -> {last}"
        typer.echo(printable(f"adapter: {training['adapter']} ({what})"))


def _usage(usage: dict[str, Any]) -> str:
    failed = f" ({usage['failures']} failed)" if usage["failures"] else ""
    told = [f"{usage['requests']} requests{failed}", f"{usage['prompt_tokens']} tokens in, {usage['tokens']} out"]
    if usage["seconds"]:
        told.append(f"{usage['seconds'] / usage['requests']:.2f} s a request, at most {usage['slowest']:.2f}")
    if usage["cost"] is not None:
        told.append(f"cost {usage['cost']:.4f}")
    return "; ".join(told)
