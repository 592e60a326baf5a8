"""`prefmill report`: the page of a run, written again."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import RunFolder


def report_command(
    folder: RunFolder,
    prompts: Annotated[int, typer.Option(min=1, help="how many prompts, or pairs, are shown in full")] = 24,
) -> None:
    """Write RUN/report.html again: images with their scores, answers, pairs, curves."""
    from ..pipeline.report import write_report
    from ..pipeline.store import Run

    typer.echo(write_report(Run.open(folder), shown=prompts))
