"""Arguments and options that several commands share. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.paths import user_path


def as_path(text: str) -> Path:
    """Return an argument that is a path. Raises PrefmillError for one that no file system takes."""
    return user_path(text, "the path")


def as_readable_run(text: str | Path) -> Path:
    """Return the folder of a run to be read: that of a run at an address is fetched into the cache."""
    from ..pipeline.objects.address import is_address

    if not is_address(text := str(text)):
        return as_path(text)
    from ..pipeline.objects.outpost import pulled

    return pulled(text)


ReadableRun = Annotated[str, typer.Argument(help="a run's folder, or its address", metavar="FOLDER")]
RunFolder = Annotated[Path, typer.Argument(help="a run's folder", parser=as_path, metavar="FOLDER")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="override a setting, e.g. generate.steps=20 (repeatable)", metavar="KEY=VALUE"),
]
Json = Annotated[bool, typer.Option("--json", help="print the result as one JSON object")]

Recipe = Annotated[
    str | None, typer.Argument(help="a recipe's name, or a .yaml or .py file; continuing needs none", metavar="RECIPE")
]
To = Annotated[
    Path | None,
    typer.Option("--to", help="the run's folder; by default runs/RECIPE", parser=as_path, metavar="FOLDER"),
]
RunTo = Annotated[
    str | None,
    typer.Option(
        "--to",
        help="the run's folder, by default runs/RECIPE; or where machines share it: s3://BUCKET/PREFIX, gs://, az://",
        metavar="FOLDER",
    ),
]
Work = Annotated[
    Path | None,
    typer.Option(help="this machine's copy of a run that is shared", parser=as_path, metavar="FOLDER"),
]
Prompts = Annotated[str | None, typer.Option(help=".txt, .json, .jsonl, .parquet, datasets folder, hub:name")]
Limit = Annotated[int | None, typer.Option(min=1, help="use the first so many prompts")]
Remake = Annotated[str | None, typer.Option(help="make this stage, and all after it, again")]
Discard = Annotated[
    bool, typer.Option("--discard", help="set aside what was made from prompts that are no longer given")
]
Train = Annotated[bool, typer.Option(help="train on the pairs, where the recipe says so")]

Price = Annotated[
    str | None, typer.Option(help="price of a device hour; by default executor.price_per_device_hour", metavar="NUMBER")
]
