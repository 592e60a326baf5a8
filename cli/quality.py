"""`prefmill quality`: what a run's rejected answers are, for people (tables) and for machines (--json)."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from ..base.text import printable
from .options import Json, ReadableRun, as_readable_run


def quality_command(folder: ReadableRun, as_json: Json = False) -> None:
    """Show what a run's rejected answers are, in six classes, before and after the pair policy."""
    from ..pipeline.quality import quality_of
    from ..pipeline.store import Run
    from .quality_table import print_quality

    place = as_readable_run(folder)
    quality = quality_of(Run.open(place))
    if as_json:
        typer.echo(printable(json.dumps({"run": str(folder), **asdict(quality)}, ensure_ascii=False)))
    else:
        print_quality(quality, place)
