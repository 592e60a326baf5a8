"""`prefmill export`: a run's pairs, preferences or scores, written as other people's programs read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..base.text import printable
from .options import Json, ReadableRun, as_path, as_readable_run

PAIRS = "trl, pds-dpo, llava, llama-factory, ms-swift, verl, webdataset"
FORMATS = f"of pairs: {PAIRS}; of preferences between images: image-pairs, imagereward, hpdv2; of all rows: scores"


def export_command(
    folder: ReadableRun,
    to: Annotated[Path, typer.Option(help="the folder to write, or a .parquet file", parser=as_path, metavar="PATH")],
    format: Annotated[str, typer.Option(help=FORMATS)] = "trl",
    eval_share: Annotated[
        float, typer.Option(help="share of the prompts for the split `test`, as a training's eval_share holds them out")
    ] = 0.0,
    license: Annotated[str | None, typer.Option(help="for the data card, e.g. cc-by-4.0")] = None,
    as_json: Json = False,
) -> None:
    """Write a run's pairs, preferences between images, or scores, as TRL, LLaMA-Factory and others read them."""
    from ..pipeline.exporting.card import card_writer
    from ..pipeline.exporting.export import export
    from ..pipeline.store import Run

    found = export(Run.open(as_readable_run(folder)), to, format, eval_share=eval_share, finish=card_writer(license))
    total = sum(found.rows.values())
    if as_json:
        counts = {"rows": total, "splits": found.rows, "images": found.images, "left_out": found.left_out}
        told = {"format": format, **counts, "untied": found.untied, "path": str(found.path)}
        typer.echo(printable(json.dumps(told, ensure_ascii=False)))
        return
    held = f" ({found.rows['test']} of them in test)" if "test" in found.rows else ""
    typer.echo(f"{total} {found.format.unit}{held}, {found.images} images -> {printable(str(found.path))}")
    for reason, count in found.left_out.items():
        typer.echo(f"left out: {count} prompts {reason}")
    if found.untied:
        typer.echo(f"{found.untied} pairs of images without a preference had to be ordered")
