"""The device time of a run as tables: what it went to, what came of it, and what was planned."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.text import printable

if TYPE_CHECKING:
    from ..recipes.run import Taken

_UNBOUNDED = 100_000  # columns where nobody looks at a screen
_PARTS = ("loading", "work", "idle", "training")


def print_device_time(ledger: dict[str, Any]) -> None:
    """Print the device seconds of every stage, how fast it was, and its cost."""
    headings = ("device seconds", *_PARTS, "all", "loads", "speed", "cost", "device")
    table = _table(headings, left={"device seconds", "speed", "device"})
    for name, time in ledger.items():
        parts = [f"{time[part]:.1f}" if time[part] else "" for part in _PARTS]
        speed = ", ".join(f"{value:.3g} {unit}" for unit, value in time["speed"].items())
        cost = "" if time["cost"] is None else f"{time['cost']:.4f}"
        loads = str(time["loads"] or "")
        _add(table, name, *parts, f"{time['seconds']:.1f}", loads, speed, cost, ", ".join(time["devices"]))
    _print(table)


def print_taken(taken: Sequence[Taken]) -> None:
    """Print what a call took beside what was planned, where anything was planned."""
    if not any(entry.planned is not None and entry.actual for entry in taken):
        return
    table = _table(("device seconds", "planned", "actual", "by"), left={"device seconds", "by"})
    for entry in taken:
        planned = "unknown" if entry.planned is None else f"{entry.planned:.1f}"
        basis = "" if entry.planned is None else "measurement" if entry.measured else "estimate"
        _add(table, entry.stage, planned, f"{entry.actual:.1f}", basis)
    known = [entry for entry in taken if entry.planned is not None]
    if known:
        totals = (sum(entry.planned or 0.0 for entry in known), sum(entry.actual for entry in known))
        _add(table, "of what was planned", *(f"{total:.1f}" for total in totals), "")
    _print(table)


def _table(headings: Sequence[str], left: set[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False).print(table)
