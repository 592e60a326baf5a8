"""`prefmill eval paper`: PDS-DPO's tables 1 to 3 for one's own adapters, with one command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.errors import PrefmillError
from .evaluate_models import ModelSettings, chosen_models
from .options import Json, as_path

if TYPE_CHECKING:
    from ..bench.evaluators.paper.needs import MissingNeed
    from ..bench.evaluators.paper.tables import FilledTable


def paper_command(
    to: Annotated[Path, typer.Option(help="where answers, reports and tables go", parser=as_path, metavar="FOLDER")],
    data: Annotated[
        Path, typer.Option(help="the benchmarks' files, laid out as in docs/evaluation.md", parser=as_path)
    ] = Path("evals"),
    adapter: Annotated[
        list[str] | None, typer.Option(help="a row: NAME=FOLDER of a training, NAME such as 9K (repeatable)")
    ] = None,
    model: Annotated[str, typer.Option(help="the base model")] = "llava-hf/llava-1.5-7b-hf",
    tables: Annotated[str, typer.Option(help="which of the tables 1, 2, 3")] = "1,2,3",
    judge: Annotated[str | None, typer.Option(help="MMHal-Bench's judge (table 2)")] = None,
    extractor: Annotated[
        str | None, typer.Option(help="a text model that lists Object HalBench's objects (table 3)")
    ] = None,
    light: Annotated[bool, typer.Option("--light", help="table 3 without NLTK, which counts otherwise")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="say what is missing and where to get it, and ask nothing")
    ] = False,
    settings: ModelSettings = None,
    as_json: Json = False,
) -> None:
    """Make PDS-DPO's tables 1 to 3: the base and each adapter, beside what was published. Continues."""
    from ..base.files import make_folder, write_text
    from ..bench.evaluators.paper.needs import missing_needs
    from ..bench.evaluators.paper.published import PUBLISHED_BASE
    from ..bench.evaluators.paper.rows import report_row
    from ..bench.evaluators.paper.settings import PaperSettings, rows_of, tables_of
    from ..bench.evaluators.paper.tables import filled
    from ..bench.result_file import called
    from .progress import watched

    chosen = chosen_models(settings or [], model=model, judge=judge, extractor=extractor)
    if chosen.sampling is not None:
        raise PrefmillError("the tables are of greedy answers.", "leave --set sampling... out")
    wanted = PaperSettings(
        model=chosen.choices["model"],
        rows=rows_of(adapter or []),
        data=data,
        to=to,
        tables=tables_of(tables),
        judge=chosen.choices.get("judge"),
        extractor=chosen.choices.get("extractor"),
        engine=chosen.engine,
        light=light,
    )
    missing = missing_needs(wanted)
    _print_missing(missing)
    if missing and not plan:
        raise PrefmillError(
            f"{len(missing)} things are missing for the tables; they are listed above, with where to get each.",
            "get them, or leave a table out with --tables",
        )
    if plan:
        rows, benchmarks = ", ".join(row.name for row in wanted.rows), ", ".join(wanted.benchmarks)
        typer.echo(f"rows: {rows}; benchmarks: {benchmarks}; missing: {len(missing)}")
        return
    make_folder(to)
    with watched() as progress:
        reports = {row.name: report_row(row, wanted, called("prefmill"), progress) for row in wanted.rows}
    published = PUBLISHED_BASE in model.lower()
    found = [filled(table, reports, published=published) for table in wanted.tables]
    write_text(to / "tables.md", "\n".join(table.markdown() for table in found))
    if as_json:
        typer.echo(json.dumps([{"number": one.number, "columns": one.columns, "lines": one.lines} for one in found]))
        return
    for table in found:
        _print_table(table)
    typer.echo(f"tables: {to / 'tables.md'}")


def _print_missing(missing: list[MissingNeed]) -> None:
    from ..base.text import printable

    for one in missing:
        typer.echo(printable(f"missing ({one.benchmark}): {one.what}\n  from: {one.source}", keep="\n"), err=True)


def _print_table(table: FilledTable) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..base.text import printable

    shown = Table(box=None, pad_edge=False, title=f"table {table.number}: {table.title}", title_justify="left")
    shown.add_column("")
    for column in table.columns:
        shown.add_column(column, justify="right")
    for label, cells in table.lines:
        shown.add_row(Text(printable(label)), *map(Text, cells))
    Console(width=None if sys.stdout.isatty() else 100_000, highlight=False).print(shown)
    for note in table.notes:
        typer.echo(printable(f"note: {note}"))
