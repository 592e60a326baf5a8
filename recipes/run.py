"""Bring a recipe to its end: pairs, adapter, report. What `prefmill run` does, for programs that do it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.files import write_text
from ..base.progress import Progress
from ..pipeline.report import write_report
from ..pipeline.store import Run
from ..pipeline.summary import summarize
from ..pipeline.synthesis import remake_from, synthesize
from ..train.progress import train_with_progress
from .recipe import Recipe
from .settings import to_yaml


@dataclass(frozen=True)
class Finished:
    """What a run holds at its end (see pipeline/summary.py), and where its report is."""

    folder: Path
    summary: dict[str, Any]
    report: Path


def run_recipe(folder: Path, recipe: Recipe, progress: Progress | None = None, remake: str | None = None) -> Finished:
    """Begin a run in `folder`, or continue it, or find it complete. `remake` makes a stage, and all after it, again.

    Raises PrefmillError for everything a user can repair; what was finished before is kept.
    """
    progress = progress or Progress()
    with Run.writing(folder) as run:
        write_text(folder / "run.yaml", to_yaml(recipe))
        if remake:
            remake_from(run, recipe, remake, progress)
        synthesize(run, recipe, progress)
        if recipe.train is not None:
            train_with_progress(folder, folder / "training", recipe.train, progress)
        report = write_report(run)
        return Finished(folder, summarize(run), report)
