"""What can be known before the first stage runs: every checkpoint, file, folder, and the disk.

A mistyped judge would otherwise be found after every image was drawn and every answer given. All problems are named
at once, each by its setting; nothing is written or downloaded. Weights are loaded only where a stage runs by engines,
which fit them or do not (`engines.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..engine.settings import MICRO_PREFIX, RANDOM_PREFIX
from ..pipeline.store import Run
from . import checks
from .batch_size import planned_batch_size
from .disk import DiskEstimate, estimate_disk
from .engines import engine_models, engine_problems
from .plan import PlannedModel, PlannedStage, Problem, plan_stages
from .recipe import BaseRecipe
from .server_calls import server_calls, server_problems
from .trainings import trainings_of


@dataclass(frozen=True)
class RunPlan:
    """What a command will do, and what stands in its way."""

    folder: Path
    stages: tuple[PlannedStage, ...]
    trainings: tuple[str, ...]
    """The folders of those still to be done."""
    models: tuple[PlannedModel, ...]
    disk: DiskEstimate | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def computed(self) -> frozenset[str]:
        """The stages that will load a model."""
        return frozenset(stage.name for stage in self.stages if stage.missing != 0 and stage.models)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        stages = [asdict(stage) | {"missing": stage.missing, "state": stage.state} for stage in self.stages]
        for stage in stages:
            del stage["config"]  # run.yaml has it, by setting
        return {**asdict(self), "folder": str(self.folder), "stages": stages}

    def require_sound(self) -> None:
        """Raise PrefmillError with all problems, if there are any."""
        if len(self.problems) == 1:
            raise PrefmillError(self.problems[0].text, self.problems[0].fix)
        if self.problems:
            lines = [f"  {problem.text}\n    fix: {problem.fix}" for problem in self.problems]
            raise PrefmillError("\n".join([f"{len(lines)} things stand in the way:", *lines]), "correct all of them")


def plan_run(
    folder: Path,
    recipe: BaseRecipe,
    *,
    remake: str | None = None,
    discard: bool = False,
    train: bool = True,
    words: str = "RECIPE",
    only: Collection[str] | None = None,
) -> RunPlan:
    """Return what `run_recipe` with the same arguments would do; `words` name the recipe on a command line.

    `only`: names of stages; all others are taken as they are in the run.
    """
    problems = [*checks.folder_problems(folder)]
    if problems:  # a path that cannot be looked at
        return RunPlan(folder, (), (), (), None, tuple(problems), ())
    run, planned = Run(folder), recipe
    if found := [*checks.device_problems(recipe.engine)]:
        problems += found
        planned = recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"device": "cpu"})})
    settled = ""
    try:
        planned, settled = planned_batch_size(run, planned)
        stages, found = plan_stages(run, planned, remake, discard, only)
    except PrefmillError as error:
        stages, found = [], [Problem.of("generate.batch_size", error)]
    problems += found
    trainings = trainings_of(recipe, folder) if train else []
    open_trainings = [training for training in trainings if not checks.is_trained(training)]
    for training in trainings:
        problems += checks.training_problems(training)
        problems += checks.trainer_problems(training.setting, training.config) if training in open_trainings else []
    sources = [entry for stage in stages if stage.missing != 0 for entry in stage.models]
    sources += [entry for training in open_trainings for entry in training.checkpoints]
    models = tuple(PlannedModel(setting, source, _where(source)) for setting, source in sources)
    problems += checks.checkpoint_problems(models)
    open_stages = {stage.name for stage in stages if stage.missing != 0}
    problems += checks.adapter_problems(recipe, open_stages)
    problems += checks.executor_problems(recipe.executor)
    problems += server_problems(recipe, open_stages)
    disk = estimate_disk(run, recipe, stages)
    problems += checks.disk_problems(disk)
    notes = [settled] if settled else []
    notes += server_calls(run, recipe, stages)
    notes += [disk.text] if disk is not None and disk.tight and not disk.clearly_short else []
    begun = tuple(training.output.name for training in open_trainings)
    plan = RunPlan(folder, tuple(stages), begun, models, disk, tuple(problems), tuple(notes))
    if problems:  # models that cannot be had cannot be asked
        return plan
    return replace(plan, problems=tuple(engine_problems(engine_models(recipe, plan.computed), words)))


def _where(source: str) -> str:
    if source.startswith(MICRO_PREFIX):
        return "comes with the package"
    if source.startswith(RANDOM_PREFIX):
        return "made on the spot"
    if source.startswith((".", "/", "~")):
        return "a folder here" if Path(source).expanduser().is_dir() else "no such folder"
    return "a folder here" if "/" in source and Path(source).is_dir() else "the hub"
