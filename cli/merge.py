"""`prefmill merge`: a training's base and adapter as one checkpoint."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import typer

from ..base.errors import PrefmillError
from ..base.text import printable
from ..train.merge import DTYPES, merge


def merge_command(output: Path, to: Path, base: str | None, dtype: str | None, as_json: bool) -> None:
    """Merge, and print what loads the result."""
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
