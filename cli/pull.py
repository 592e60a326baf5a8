"""`prefmill pull`: a run out of an object store, as an ordinary folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import Json, as_path


def pull_command(
    address: Annotated[str, typer.Argument(help="s3://BUCKET/PREFIX, gs://, az:// or file:///FOLDER")],
    to: Annotated[Path, typer.Option(help="the folder; one pulled before is brought up to date", parser=as_path)],
    as_json: Json = False,
) -> None:
    """Fetch a run that is shared through an object store, as it is now. It may still be going on."""
    from ..pipeline.objects.outpost import pulled

    pulled(address, to)
    typer.echo(json.dumps({"run": str(to), "address": address}) if as_json else f"run:    {to}")
