"""`prefmill eval lmms`: general ability, by lmms-eval in an environment of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..base.errors import PrefmillError
from .options import Json, as_path


def lmms_command(
    model: Annotated[
        str | None, typer.Option(help="the checkpoint: a folder that `prefmill merge` wrote, or a hub id")
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="lmms-eval's names of tasks; by default PDS-DPO's table 1")] = None,
    to: Annotated[
        Path | None, typer.Option(help="where results go; report.json is in it", parser=as_path, metavar="FOLDER")
    ] = None,
    kind: Annotated[str, typer.Option(help="lmms-eval's name of the model's class")] = "llava_hf",
    arguments: Annotated[
        list[str] | None, typer.Option("--argument", help="more of --model_args, such as device_map=auto (repeatable)")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="as lmms-eval takes it")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="ask so many questions of each task: to try it")] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="read files of results instead (repeatable)", parser=as_path, metavar="FILE"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run MME, MMBench, VQAv2, TextVQA, ScienceQA and MM-Vet by lmms-eval, and read its results. Continues."""
    from ..bench.evaluators.lmms.running import LmmsRun, run_tasks
    from ..bench.evaluators.lmms.tasks import TASKS, read_results, report_content
    from ..bench.evaluators.report import report_of, write_report
    from ..bench.result_file import called
    from .progress import watched

    wanted = [one.strip() for one in tasks.split(",") if one.strip()] if tasks is not None else []
    if results:
        if model is not None:
            raise PrefmillError("--results are read, and --model would be run.", "give one of the two")
        found = [read_results(path) for path in results]
    else:
        if model is None or to is None:
            raise PrefmillError("there is nothing to run.", "give --model M and --to FOLDER, or --results FILE")
        wanted = wanted or list(TASKS)
        folder = Path(model).expanduser()
        source = str(folder.resolve()) if folder.is_dir() else model
        run = LmmsRun(source, kind, tuple(arguments or ()), batch_size, limit)
        with watched() as progress:
            found = run_tasks(run, wanted, to, progress)
    report = report_of("lmms", called("prefmill"), report_content(found, wanted))
    if to is not None:
        write_report(to / "report.json", report)
    if as_json:
        typer.echo(json.dumps(report))
        return
    _print(report)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..base.text import printable

    typer.echo(printable(f"{report['title']} {', '.join(report['lmms_eval'])}: {', '.join(report['models'])}"))
    table = Table(box=None, pad_edge=False)
    for heading in ("measure", "value", "task", "metric", "questions", ""):
        table.add_column(heading, justify="right" if heading in {"value", "questions"} else "left")
    for one in report["measures"]:
        value = "undefined" if one["value"] is None else f"{one['value']:.1f}"
        asked, there = report["samples"].get(one["task"], ("?", "?"))
        cells = (one["name"], value, one["task"], one["metric"] or "-", f"{asked} of {there}", one["note"])
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 100_000, highlight=False).print(table)
    known = {one["task"] for one in report["measures"]}
    for task, metrics in report["metrics"].items():
        if task not in known:
            typer.echo(printable(f"{task}: {', '.join(f'{name} {value:g}' for name, value in metrics.items())}"))
    for note in report["notes"]:
        typer.echo(printable(f"note: {note}"))
