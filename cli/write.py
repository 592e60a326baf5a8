"""`prefmill write prompts` and `prefmill write wording`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..base.errors import PrefmillError
from .options import Json, Settings, as_path

app = typer.Typer(no_args_is_help=True, help="Write text-to-image prompts by topic, by a grammar or a model.")


@app.command("prompts")
def prompts_command(
    to: Annotated[Path, typer.Option(help="the .jsonl file to write", parser=as_path, metavar="FILE")],
    topics: Annotated[str, typer.Option(help="names with commas; all, paper (ten) or later (five)")] = "all",
    count: Annotated[int, typer.Option(min=1, help="prompts over all topics")] = 1000,
    writer: Annotated[
        str, typer.Option(help="grammar, or a text model: folder, hub id, or a server's name of it")
    ] = "grammar",
    seed: Annotated[int, typer.Option(min=0, help="another seed writes other prompts")] = 0,
    wording: Annotated[
        str | None, typer.Option(help="a folder with requests and topics of one's own", metavar="FOLDER")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write prompts that `prefmill run --prompts` reads. Continues where it stopped; near duplicates are left out."""
    from ..engine.settings import EngineSettings
    from ..pipeline.writing.output import PromptWritingConfig, write_prompts
    from ..recipes.settings import override, validated
    from .progress import watched

    engine = [setting.removeprefix("engine.") for setting in settings or [] if setting.startswith("engine.")]
    own = [setting for setting in settings or [] if not setting.startswith("engine.")]
    given = {"topics": topics, "count": count, "model": writer, "seed": seed, "wording": wording}
    # the backend first: the number of requests at a time that suits it is settled where it is named
    given |= dict(one.split("=", 1) for one in own if one.startswith("backend="))
    config = override(validated(PromptWritingConfig, given), own)
    command = ["prefmill", *sys.argv[1:]]
    with watched(shlex.join(command)) as progress:
        account = write_prompts(to, config, override(EngineSettings(), engine), progress)
        if short := account["asked"] - account["kept"]:
            progress.notice(f"{short} of {account['asked']} prompts are missing: see the table and {to}.written")
    _print_account(account)
    if as_json:
        typer.echo(json.dumps(account))
    if short:
        raise PrefmillError(
            f"{to} holds {account['kept']:,} prompts, {short:,} fewer than were asked",
            "name another writer, raise --set similarity= or sampling.temperature=, or give fewer; replies are kept",
        )


@app.command("wording")
def wording_command(
    to: Annotated[Path, typer.Option(help="a new folder", parser=as_path, metavar="FOLDER")],
) -> None:
    """Copy the requests to models, the kinds of questions and the topics' grammars into a folder, to edit them."""
    from ..pipeline.writing.wording import copy_wording

    for name in copy_wording(to):
        typer.echo(to / name)


def _print_account(account: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..base.text import printable

    table = Table(box=None, pad_edge=False)
    for heading in ("topic", "asked", "read", "kept", "words", "rejected"):
        table.add_column(heading, justify="right" if heading in {"asked", "read", "kept", "words"} else "left")
    for name, row in account["topics"].items():
        rejected = ", ".join(f"{count} {reason}" for reason, count in row["rejected"].items())
        cells = (name, *(str(row[key]) for key in ("asked", "read", "kept", "words")), rejected)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 100_000, highlight=False).print(table)
    cost = (account["usage"] or {}).get("cost")
    paid = "" if cost is None else f", cost {cost:.4f}"
    typer.echo(printable(f"{account['kept']} prompts by {account['writer']}{paid}: {account['file']}"))
