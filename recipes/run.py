"""Bring a recipe to its end: pairs, adapter, report. What `prefmill run` does, for programs that do it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.progress import Progress
from ..pipeline.report import write_report
from ..pipeline.store import Run
from ..pipeline.summary import summarize
from ..pipeline.synthesis import remake_from, synthesize
from .batch_size import settle_batch_size
from .engine_builds import build_missing
from .preflight import plan_run
from .recipe import BaseRecipe
from .saved import save
from .trainings import trainings_of


@dataclass(frozen=True)
class Finished:
    """What a run holds at its end (see pipeline/summary.py), and where its report is."""

    folder: Path
    summary: dict[str, Any]
    report: Path


def run_recipe(
    folder: Path,
    recipe: BaseRecipe,
    progress: Progress | None = None,
    *,
    remake: str | None = None,
    discard: bool = False,
    train: bool = True,
    words: str = "RECIPE",
) -> Finished:
    """Begin a run in `folder`, or continue it, or find it complete.

    `remake` makes a stage, and all after it, again; `discard` lets go of what was made from prompts that are no longer
    given; `train` False stops at the pairs; `words` name the recipe in advice. These are for this call: the folder
    remembers the recipe alone, and that only after everything that can be known before has been found in order.
    Engines that are missing are built before the first stage, where the settings say so.

    Raises PrefmillError for everything a user can repair; what was finished before is kept.
    """
    progress = progress or Progress()
    recipe, settled = settle_batch_size(Run(folder), recipe)
    if settled:
        progress.notice(settled)
    plan = plan_run(folder, recipe, remake=remake, discard=discard, train=train, words=words)
    plan.require_sound()
    for note in plan.notes:
        progress.notice(note)
    with Run.writing(folder) as run:
        save(folder, recipe)
        build_missing(recipe, plan.computed, progress)
        if remake:
            remake_from(run, recipe, remake, progress)
        synthesize(run, recipe, progress, discard=discard)
        for training in trainings_of(recipe, folder) if train else ():
            training.start(folder, progress)
        report = write_report(run)
        return Finished(folder, summarize(run), report)
