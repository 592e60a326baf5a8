"""Bring a recipe to its end: pairs, adapter, report. What `prefmill run` does, for programs that do it themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.progress import Progress
from ..pipeline.budget import Budget, BudgetSpent, Purse
from ..pipeline.device_time import device_times
from ..pipeline.ledger import DeviceLedger, StageTime
from ..pipeline.objects.share import SharedRun
from ..pipeline.report import write_report
from ..pipeline.store import Run
from ..pipeline.summary import summarize
from ..pipeline.synthesis import remake_from, synthesize
from .batch_size import settle_batch_size
from .booking import train_booked
from .engine_builds import build_missing
from .forecast import Forecast, forecast_here
from .preflight import plan_run
from .recipe import BaseRecipe
from .saved import save
from .trainings import trainings_of


@dataclass(frozen=True)
class Taken:
    """Device seconds of a stage in one call: as planned before it, None where that was not known, and as they were."""

    stage: str
    planned: float | None
    measured: bool
    """Whether the plan rested on measurements alone."""
    actual: float


@dataclass(frozen=True)
class Finished:
    """What a run holds at its end (see pipeline/summary.py), and where its report is."""

    folder: Path
    summary: dict[str, Any]
    report: Path
    taken: tuple[Taken, ...] = ()
    stopped: BudgetSpent | None = None
    """Why it was stopped before its end, which only a budget does without an error."""


def run_recipe(
    folder: Path,
    recipe: BaseRecipe,
    progress: Progress | None = None,
    *,
    remake: str | None = None,
    discard: bool = False,
    train: bool = True,
    words: str = "RECIPE",
    budget: Budget | None = None,
    sharing: SharedRun | None = None,
) -> Finished:
    """Begin a run in `folder`, or continue it, or find it complete.

    `remake` makes a stage, and all after it, again; `discard` lets go of what was made from prompts that are no longer
    given; `train` False stops at the pairs; `words` name the recipe in advice; `budget` is for all calls together, and
    what it stopped is continued by a larger one; `sharing` publishes `folder`, which is its copy. These are for this
    call: the folder remembers the recipe alone, and that only after everything that can be known before has been found
    in order. Engines that are missing are built before the first stage, where the settings say so.

    Raises PrefmillError for everything a user can repair; what was finished before is kept.
    """
    progress = progress or Progress()
    recipe, settled = settle_batch_size(Run(folder), recipe)
    if settled:
        progress.notice(settled)
    plan = plan_run(folder, recipe, remake=remake, discard=discard, train=train, words=words)
    plan.require_sound()
    expected = forecast_here(plan, recipe)
    if budget is not None:
        _require_a_unit(budget, folder, recipe, expected)
    for note in (*(sharing.notices if sharing else ()), *plan.notes):
        progress.notice(note)
    with Run.writing(folder) as run:
        run.sharing = sharing
        before = device_times(run)
        save(folder, recipe)
        build_missing(recipe, plan.computed, progress)
        if remake:
            remake_from(run, recipe, remake, progress)
        stopped = None
        try:
            synthesize(run, recipe, progress, discard=discard, budget=budget)
            if train:
                _train(recipe, run, progress, expected, budget)
        except BudgetSpent as spent:
            stopped = spent
        report = write_report(run)
        return Finished(folder, summarize(run), report, tuple(_taken(expected, before, device_times(run))), stopped)


def _train(recipe: BaseRecipe, run: Run, progress: Progress, expected: Forecast, budget: Budget | None) -> None:
    ledger = DeviceLedger(run.folder)
    purse = Purse(budget, ledger) if budget else None
    planned = {stage.name: stage.held or 0.0 for stage in expected.stages}
    for training in trainings_of(recipe, run.folder):
        if run.sharing is not None:
            run.sharing.require()
        train_booked(training, run.folder, progress, ledger, purse, planned.get(training.output.name, 0.0))


def _require_a_unit(budget: Budget, folder: Path, recipe: BaseRecipe, expected: Forecast) -> None:
    """Raise BudgetSpent where the first unit of the first stage that needs a device would not fit, as far as known."""
    first = next((stage for stage in expected.stages if stage.missing != 0 and stage.needs_device), None)
    if first is None:
        return
    unit = min(first.unit, first.missing or first.unit)
    seconds = (first.load.value if first.load else 0.0) + (first.rate.value * unit if first.rate else 0.0)
    Purse(budget, DeviceLedger(folder)).require(first.name, seconds)


def _taken(expected: Forecast, before: dict[str, StageTime], after: dict[str, StageTime]) -> Iterator[Taken]:
    planned = {stage.name: stage for stage in expected.stages}
    for name in dict.fromkeys([*planned, *after]):
        actual = after.get(name, StageTime()).seconds - before.get(name, StageTime()).seconds
        stage = planned.get(name)
        if stage is not None or actual:
            yield Taken(name, stage.held if stage else None, stage is not None and stage.measured, round(actual, 3))
