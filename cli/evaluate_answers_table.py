"""The screen of an evaluation of answers: all measures of a group beside each other, with intervals and counts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.text import printable

if TYPE_CHECKING:
    from ..bench.evaluators.answers.evaluation import Evaluation


def finish(evaluation: Evaluation, to: Path | None, *, as_json: bool) -> None:
    """End a command: write an evaluation's report where that is wanted, and print it."""
    from ..bench.evaluators.report import write_report
    from ..bench.result_file import called

    report = evaluation.report(called("prefmill"))
    if to is not None:
        write_report(to, report)
    if as_json:
        typer.echo(json.dumps(report))
        return
    print_evaluation(report)
    typer.echo(f"report: {to}" if to else "give --to FILE for the report that `prefmill eval compare` reads")


def print_evaluation(report: Mapping[str, Any]) -> None:
    """Print a report of `Evaluation.report`: measures with 95 % intervals, counts, the rule, coverage and notes."""
    settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
    typer.echo(printable(f"{report['title']} ({settings})" if settings else report["title"]))
    print_measures(report["measures"])
    for group, counts in report["counts"].items():
        typer.echo(printable(f"{group}: {', '.join(f'{name} {count:,}' for name, count in counts.items())}"))
    typer.echo(printable(f"rule {report['rule_version']}: {report['rule']}"))
    typer.echo(f"coverage: {coverage_line(report['coverage'])}")
    for note in report["notes"]:
        typer.echo(printable(f"note: {note}"))


def print_measures(measures: Sequence[Mapping[str, Any]]) -> None:
    """Print measures as tables: a row for every group, one table for groups that have the same measures."""
    groups: dict[str, dict[str, str]] = {}
    for one in measures:
        groups.setdefault(one["group"], {})[one["name"]] = cell(one)
    console = Console(width=None if sys.stdout.isatty() else 100_000, highlight=False)
    for names in dict.fromkeys(tuple(found) for found in groups.values()):
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for name in names:
            table.add_column(name, justify="right")
        for group, found in groups.items():
            if tuple(found) == names:
                table.add_row(Text(printable(group)), *(Text(found[name]) for name in names))
        console.print(table)


def cell(measure: Mapping[str, Any], *, signed: bool = False) -> str:
    """A measure as text, with its interval; what the official script prints, where there is that."""
    digits = 3 if measure.get("formula", measure).get("scale", 1.0) == 1 else 1
    value = measure.get("official", measure["value"])
    if value is None:
        return "undefined"
    style = f"{'+' if signed else ''}.{digits}f"
    ends = [measure["low"], measure["high"]]
    return f"{value:{style}}" + ("" if None in ends else f" [{ends[0]:{style}}, {ends[1]:{style}}]")


def coverage_line(coverage: Mapping[str, int]) -> str:
    """The coverage of an evaluation in one line."""
    from ..bench.evaluators.answers.matching import AnswerCoverage

    return str(AnswerCoverage(**coverage))


def print_changes(found: Mapping[str, Any]) -> None:
    """Print a comparison: before, after and difference of every measure, and which items changed."""
    console = Console(width=None if sys.stdout.isatty() else 100_000, highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("", "measure", "before", "after", "difference [95 %]", ""):
        table.add_column(heading, justify="left" if heading in ("", "measure") else "right")
    for one in found["measures"]:
        before, after = (
            cell({"value": one[side], "low": None, "high": None, "scale": one["scale"]}) for side in ("before", "after")
        )
        difference = cell({**one, "value": one["difference"]}, signed=True)
        chance = one["low"] is not None and one["low"] <= 0 <= one["high"]
        cells = (printable(one["group"]), one["name"], before, after, difference, "may be chance" if chance else "")
        table.add_row(*map(Text, cells))
    console.print(table)
    for name, one in found["items"].items():
        typer.echo(
            printable(
                f"{name}: {one['wrong_before']:,} -> {one['wrong_after']:,} wrong of {one['items']:,}; "
                f"{one['mended']:,} mended, {one['broken']:,} broken, McNemar's exact p {one['p']:.2g}"
            )
        )
    coverage = found["coverage"]
    typer.echo(f"coverage: {coverage['items']:,} items in both, {coverage['in_one_alone']:,} in one alone")
    typer.echo("intervals draw whole images; McNemar's test takes the items as independent")
