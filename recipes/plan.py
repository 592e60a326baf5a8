"""What a recipe has to do in a run: its stages in order, what each holds and misses. `forecast.py`: what that takes.

Nothing here writes, loads a model or guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..base.errors import PrefmillError
from ..pipeline.execute.plan import plan_task, refuse_loss
from ..pipeline.manifest import check_fingerprint
from ..pipeline.stage import Task
from ..pipeline.store import Dataset, Run
from ..pipeline.synthesis import tasks_of
from .recipe import BaseRecipe


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a run, as it will find its folder.

    `inputs` is None where it is known only when the stages before have finished; `expected` is then what this run's
    own ratio of inputs to prompts lets expect, if it has one. `models` are settings with their checkpoints, `config`
    what its rows depend on, `reads` the stages its inputs are made of.
    """

    name: str
    unit: str
    fan_out: int
    models: tuple[tuple[str, str], ...]
    done: int
    inputs: int | None
    expected: int | None
    config: dict[str, Any] | None = None
    reads: tuple[str, ...] = ()
    batch_size: int = 1

    @property
    def missing(self) -> int | None:
        """How many inputs are still to be worked on, None where that is not known yet."""
        return None if self.inputs is None else max(0, self.inputs - self.done)

    @property
    def state(self) -> str:
        """complete, continues or begins."""
        if self.missing == 0:
            return "complete"
        return "continues" if self.done else "begins"


@dataclass(frozen=True)
class Problem:
    """What would stop the run, by the setting that has to be corrected."""

    setting: str
    message: str
    fix: str

    @classmethod
    def of(cls, setting: str, error: PrefmillError) -> Problem:
        """An error as a problem of a setting."""
        return cls(setting, error.message, error.fix)

    @property
    def text(self) -> str:
        """The message, beginning with the setting where it does not begin so by itself."""
        return self.message if self.message.startswith(self.setting) else f"{self.setting}: {self.message}"


@dataclass(frozen=True)
class PlannedModel:
    """A checkpoint that will be loaded, and where it comes from."""

    setting: str
    source: str
    where: str


def plan_stages(
    run: Run, recipe: BaseRecipe, remake: str | None, discard: bool, only: Collection[str] | None = None
) -> tuple[list[PlannedStage], list[Problem]]:
    """Return the stages that a recipe computes in a run, in order, and what keeps them from it.

    `only`: as in `tasks_of`.
    """
    try:
        tasks = tasks_of(run, recipe, only)
    except PrefmillError as error:
        return [], [Problem.of("recipe", error)]
    names = [task.name for task in tasks]
    if remake is not None and remake not in names:
        choice = f"choose one of {', '.join(names)}"
        return [], [Problem("--remake", f"this run computes no stage {remake!r}", choice)]
    remade = set(names[names.index(remake) :]) if remake else set[str]()
    stages, problems, fingerprints = list[PlannedStage](), list[Problem](), dict[str, str]()
    fits, grown, complete = True, 1.0, set(run.stages()) - set(names)  # imported rows are there
    for number, task in enumerate(tasks):
        upstream = [fingerprints.get(name) or run.manifest(name).get("fingerprint", "") for name in task.reads]
        fingerprint = fingerprints[task.name] = task.fingerprint(*upstream)
        if fits and task.name not in remade:  # where one stage does not fit, those after it do not either: said once
            problems += _raised_by(task.name, partial(check_fingerprint, run, task, fingerprint))
            fits = not problems
        inputs = None
        if complete.issuperset(task.reads):
            try:
                inputs = _inputs(run, task)
            except PrefmillError as error:
                problems.append(Problem.of(task.name, error))
        if inputs is not None and not (task.reads or discard or task.name in remade) and fits:
            problems += _raised_by(task.name, partial(_refuse_loss, run, task, tasks[number + 1 :]))
        stage = _planned(run, task, inputs, again=task.name in remade, grown=grown)
        if not task.reads and inputs and (before := run.manifest(task.name).get("inputs")):
            grown = inputs / before
        if stage.missing == 0:
            complete.add(task.name)
        stages.append(stage)
    return stages, problems


def _refuse_loss(run: Run, task: Task, after: list[Task]) -> None:
    refuse_loss(run, plan_task(run, task), after)


def _inputs(run: Run, task: Task) -> int:
    """Return how many inputs a task has: a complete stage has counted them, another one counts them now."""
    manifest = run.manifest(task.name)
    if task.reads and manifest.get("complete"):
        return manifest["inputs"]
    return len(task.source())  # what comes from outside may have grown


def _planned(run: Run, task: Task, inputs: int | None, *, again: bool, grown: float) -> PlannedStage:
    manifest = run.manifest(task.name)
    dataset: Dataset[Any] = run.dataset(task.name, task.output)
    covered = sum(shard.stop - shard.start for shard in dataset.shards)
    expected = None
    if inputs is None and manifest.get("complete"):
        expected = round(manifest["inputs"] * grown)
    done = 0 if again else covered
    models = tuple((f"{task.setting}.model", source) for source in task.checkpoints)
    fixed = (task.name, task.unit, task.fan_out, models)
    return PlannedStage(*fixed, done, inputs, expected, task.config, task.reads, task.batch_size)


def _raised_by(setting: str, check: Callable[[], None]) -> list[Problem]:
    try:
        check()
    except PrefmillError as error:
        return [Problem.of(setting, error)]
    return []
