"""`prefmill micro`: make the micro world's checkpoints from nothing, and hold them against their manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.errors import PrefmillError
from .options import Json, as_path
from .progress import ConsoleProgress, watched

if TYPE_CHECKING:
    from ..micro.teach.training import TrainingStep

app = typer.Typer(no_args_is_help=True, help="Train and verify the checkpoints of the built-in micro world.")
Names = Annotated[list[str] | None, typer.Argument(help="which checkpoints; by default all")]


@app.command("train")
def train_command(
    names: Names = None,
    to: Annotated[Path, typer.Option(help="the folder they go to", parser=as_path, metavar="FOLDER")] = Path(
        "runs/micro-checkpoints"
    ),
    seed: Annotated[int, typer.Option(help="seed of weights and training data")] = 0,
    as_json: Json = False,
) -> None:
    """Train the micro checkpoints from nothing: 140 minutes on one core for all of them."""
    from ..micro.checkpoints import MANIFEST, RECIPES, train_all

    chosen = " ".join(names or [])
    with watched(f"prefmill micro train {chosen} --to {to} --seed {seed}") as progress:
        manifest = train_all(to, seed, names or None, _Bars(progress))
    entries = {name: manifest["checkpoints"][name] for name in names or RECIPES}
    if as_json:
        typer.echo(json.dumps({name: entry["quality"] for name, entry in entries.items()}))
        return
    for name, entry in entries.items():
        typer.echo(f"{name}: {entry['bytes'] / 1e6:.1f} MB, {entry['cpu_seconds']:.0f} CPU seconds")
        typer.echo(f"  {_listed(entry['quality'])}")
    typer.echo(f"manifest: {to / MANIFEST}")


@app.command("verify")
def verify_command(
    names: Names = None,
    folder: Annotated[
        Path | None,
        typer.Option("--from", help="another folder than that of the package", parser=as_path, metavar="FOLDER"),
    ] = None,
    quick: Annotated[bool, typer.Option(help="measure a small sample, in seconds")] = False,
    as_json: Json = False,
) -> None:
    """Compare checkpoint files with their manifest's hashes, and measure their quality again."""
    from ..micro.checkpoints import SHIPPED, verify

    checks = verify(folder or SHIPPED, names or None, quick=quick)
    if as_json:
        found = {check.name: {"measured": check.measured, "differences": check.differences} for check in checks}
        typer.echo(json.dumps(found))
    else:
        for check in checks:
            typer.echo(f"{check.name}: {'differs' if check.differences else 'as stated'}")
            typer.echo("".join(f"  {line}\n" for line in check.differences or [_listed(check.measured)]), nl=False)
    wrong = [check.name for check in checks if check.differences]
    if wrong:
        raise PrefmillError(
            f"{', '.join(wrong)}: not what the manifest states",
            f"prefmill micro train {' '.join(wrong)} --to {folder or SHIPPED}, or restore the shipped files",
        )


class _Bars:
    """Trainings report a part and a step; each part becomes a bar."""

    def __init__(self, progress: ConsoleProgress) -> None:
        self.progress = progress
        self.part, self.step = "", 0

    def __call__(self, report: TrainingStep) -> None:
        if report.part != self.part or report.step < self.step:
            self.progress.begin(report.part, report.steps, unit="steps")
            self.part, self.step = report.part, 0
        self.progress.step(report.part, report.step - self.step, f", loss {report.loss:.3f}")
        self.step = report.step


def _listed(quality: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in quality.items())
