"""`prefmill demo`: run the demo, print its tables and where the report is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from ..bench.demo import run_demo
from .progress import watched


def demo_command(folder: Path, as_json: bool, settings: Sequence[str] = ()) -> None:
    """Run, continue or find the demo; the last line on stdout is its results as one JSON object."""
    with watched("the same command") as progress:
        shown = run_demo(folder, progress, settings)
    if not as_json:
        _print_results(shown.results)
        typer.echo(f"report: {shown.report}")
    typer.echo(json.dumps(shown.results))


def _print_results(results: dict[str, Any]) -> None:
    console, selection = Console(), results["selection"]
    table = Table(title=f"images that show exactly what was asked, {selection['n']} prompts", box=None)
    table.add_column("picked by")
    table.add_column("share", justify="right")
    names = {
        "picked_exact": "image reward",
        "clip_exact": "CLIP",
        "best_fixed_guidance_exact": "best fixed guidance",
        "random_exact": "chance",
        "worst_exact": "image reward, its worst",
    }
    for key, name in names.items():
        table.add_row(name, f"{selection[key]:.3f}")
    console.print(table)
    console.print(f"picked against chance: paired t {selection['paired_t']:.1f}", highlight=False)
    table = Table(title=f"the policy on {results['dpo']['n']} held-out scenes", box=None)
    for heading in ("measure", "before", "after training", "control"):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for key, value in results["dpo"].items():
        if isinstance(value, list):
            control = results["control"][key][1]
            table.add_row(key, f"{value[0]:.3f}", f"{value[1]:.3f}", f"{control:.3f}")
    p = f"{results['dpo']['mcnemar_p']:.1e}", f"{results['control']['mcnemar_p']:.2f}"
    table.add_row("McNemar p (chair_s)", "", *p)
    console.print(table)
