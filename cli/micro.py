"""`prefmill micro`: make the micro world's checkpoints from nothing, and hold them against their manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from ..base.errors import PrefmillError
from ..micro.checkpoints import MANIFEST, RECIPES, SHIPPED, train_all, verify
from ..micro.teach.training import Progress
from .progress import ConsoleProgress, watched


def train_command(names: Sequence[str], to: Path, seed: int, as_json: bool) -> None:
    """Train the named checkpoints, or all, into a folder, and print what they measure."""
    chosen = " ".join(names)
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


def verify_command(names: Sequence[str], folder: Path | None, quick: bool, as_json: bool) -> None:
    """Compare files and re-measured quality with the manifest. Raises PrefmillError where they differ."""
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

    def __call__(self, report: Progress) -> None:
        if report.part != self.part or report.step < self.step:
            self.progress.begin(report.part, report.steps, unit="steps")
            self.part, self.step = report.part, 0
        self.progress.step(report.part, report.step - self.step, f", loss {report.loss:.3f}")
        self.step = report.step


def _listed(quality: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in quality.items())
