"""`prefmill push`: an export to the Hugging Face Hub, or what such an upload would hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..base.text import printable
from .options import Json, as_path


def push_command(
    folder: Annotated[
        Path, typer.Argument(help="a folder that `prefmill export` wrote", parser=as_path, metavar="FOLDER")
    ],
    repository: Annotated[str, typer.Argument(help="the data set's name on the Hub: owner/name", metavar="OWNER/NAME")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be uploaded, and stop")] = False,
    public: Annotated[bool, typer.Option("--public", help="for everybody to see; a new data set is private")] = False,
    as_json: Json = False,
) -> None:
    """Upload an export to the Hugging Face Hub. The token is read from the environment (HF_TOKEN)."""
    from ..pipeline.exporting.push import plan_push, push

    plan = plan_push(folder, repository, private=not public)
    address = None if dry_run else push(plan)
    if as_json:
        told = {"repository": repository, "private": plan.private, "license": plan.license, "bytes": plan.bytes}
        typer.echo(printable(json.dumps({**told, "files": plan.files, "uploaded": address}, ensure_ascii=False)))
        return
    if dry_run:
        for name, size in plan.files.items():
            typer.echo(f"{size:>14,}  {printable(name)}")
    where = f"{'private' if plan.private else 'public'} data set {repository}"
    told = f"{len(plan.files)} files, {plan.bytes:,} bytes, licence {plan.license or 'not stated'}"
    typer.echo(f"{told}: {f'would go to the {where}' if dry_run else address}")
