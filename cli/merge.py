"""`prefmill merge`: a training's base and adapter as one checkpoint, or several runs as one run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from ..base.errors import PrefmillError
from ..base.text import printable
from ..train.merge import DTYPES, merge


def merge_command(folders: Sequence[Path], to: Path, base: str | None, dtype: str | None, as_json: bool) -> None:
    """Merge a training, and print what loads the result; join runs where there are several folders."""
    if len(folders) > 1:
        if base is not None or dtype is not None:
            raise PrefmillError("--base and --dtype are for a training, and these are runs", "leave them out")
        _join(folders, to, as_json)
        return
    output = folders[0]
    if dtype is not None and dtype not in DTYPES:
        raise PrefmillError(f"there is no dtype {dtype!r}", f"choose one of {', '.join(DTYPES)}")
    manifest = merge(output, to, base=base, dtype=dtype)  # type: ignore[arg-type]  # one of them
    folder = to.absolute()
    serve = f"vllm serve {shlex.quote(str(folder))}"
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "base_model": manifest.base_model, "serve": serve}))
        return
    if getattr(manifest.config, "base_bits", None):
        typer.echo("note: trained on a base in four bits, merged into the same base in its own precision", err=True)
    typer.echo(printable(f"checkpoint: {folder}"))
    typer.echo(printable(serve))
    typer.echo(f"AutoModelForImageTextToText.from_pretrained({str(folder)!r})")


def _join(folders: Sequence[Path], to: Path, as_json: bool) -> None:
    from ..recipes.joining import join_into

    counts = join_into(folders, to)
    if as_json:
        typer.echo(json.dumps({"run": str(to), "rows": counts}))
        return
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    typer.echo(printable(f"joined {len(folders)} runs: {told}"))
    typer.echo(printable(f"run:    {to}"))
