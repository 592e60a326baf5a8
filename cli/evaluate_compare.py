"""`prefmill eval compare`: what changed between two evaluations of the same questions, and how sure that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..base.text import printable
from .evaluate_models import AllowPartial, Report
from .options import Json, as_path


def compare_command(
    before: Annotated[Path, typer.Argument(help="a report of `prefmill eval pope|amber --to`", parser=as_path)],
    after: Annotated[Path, typer.Argument(help="another of the same questions", parser=as_path)],
    allow_partial: AllowPartial = False,
    to: Report = None,
    as_json: Json = False,
) -> None:
    """Compare two evaluations item by item: differences with bootstrap intervals, and McNemar's exact test."""
    from ..bench.evaluators.answers.comparing import compare, read_report
    from ..bench.evaluators.report import report_of, write_report
    from ..bench.result_file import called
    from .evaluate_answers_table import print_changes

    found = compare(read_report(before, "BEFORE"), read_report(after, "AFTER"), partial=allow_partial)
    report = report_of("compare", called("prefmill"), found)
    if to is not None:
        write_report(to, report)
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(printable(f"{found['title']}: {before} -> {after}"))
    print_changes(found)
    if to is not None:
        typer.echo(f"report: {to}")
