"""`prefmill compile list` and `prune`: the engines that are kept, whatever recipe they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..base.text import printable
from .options import Json, as_path

Root = Annotated[
    Path | None,
    typer.Option("--from", help="the folder of engines; by default the one that runs use", parser=as_path),
]


def list_command(root: Root = None, as_json: Json = False) -> None:
    """List the engines that are there, and why one cannot be loaded here."""
    from rich.console import Console
    from rich.table import Table

    from ..compile.inventory import holdings

    folder, device = _root(root)
    found = holdings(folder, device)
    if as_json:
        typer.echo(json.dumps([holding.to_json() for holding in found]))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("network", "backend", "precision", "state", "size", "error", "target", "created"):
        table.add_column(heading, justify="right" if heading in {"size", "error"} else "left", overflow="fold")
    for holding in found:
        if artifact := holding.artifact:
            identity, worst = artifact.identity, "" if holding.worst is None else f"{holding.worst:.1e}"
            size, targets = f"{holding.bytes / 1e6:.1f} MB", " ".join(artifact.targets)
            cells = (identity.network, identity.backend, identity.precision, artifact.state, size, worst, targets)
            table.add_row(*(printable(cell) for cell in (*cells, artifact.created)))
    if table.row_count:
        Console().print(table, markup=False)
    for holding in found:
        if holding.obstacle:
            typer.echo(printable(f"not loaded here: {holding.folder.name} {holding.obstacle}"))
    typer.echo(printable(f"{len(found)} in {folder}, {sum(holding.bytes for holding in found) / 1e6:.1f} MB"))


def prune_command(
    root: Root = None,
    older_than: Annotated[float, typer.Option(min=0, help="only what is at least so many days old")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be removed, and remove nothing")] = False,
    as_json: Json = False,
) -> None:
    """Remove engines that nothing here can load any more: of other versions, damaged, half written."""
    from ..compile.inventory import holdings, prune

    folder, device = _root(root)
    removed = prune(holdings(folder, device), older_than, dry_run=dry_run)
    size = sum(holding.bytes for holding in removed)
    if as_json:
        typer.echo(json.dumps({"removed": [str(one.folder) for one in removed], "bytes": size, "dry_run": dry_run}))
        return
    for holding in removed:
        typer.echo(printable(f"{holding.folder.name} {holding.obstacle}"))
    typer.echo(f"{size / 1e6:.1f} MB {'would be' if dry_run else 'were'} removed, {len(removed)} engines")


def _root(root: Path | None) -> tuple[Path, Any]:
    from ..engine.device import resolve_device
    from ..engine.settings import EngineSettings

    settings = EngineSettings()
    return root or settings.artifacts_folder, resolve_device(settings)
