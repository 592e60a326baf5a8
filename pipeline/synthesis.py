"""The synthesis run: which stages of a loop this run computes, and how they are brought to their end.

What is computed follows from one rule. Imported rows are where a run begins: they are left as they are, and so is
everything they were made from. All other stages are computed. Stages that only say something of rows (`annotates`)
are computed also where nothing is made of them, if what they read is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from ..base.errors import PrefmillError
from ..base.progress import Progress
from ..engine.settings import RANDOM_PREFIX, EngineSettings
from .budget import Budget
from .declaration import Inputs, StageDeclaration
from .execute.crews import crew_of
from .execute.local import run_tasks
from .execute.plan import Plan, plan_task
from .judging.settings import JudgeChoice
from .loop import Loop, LoopReference
from .pair_policy import PairPolicy
from .prompts import PromptsConfig
from .stage import Stage, Task
from .stages.answer import STAGE as ANSWER
from .stages.answer import ResponderConfig
from .stages.generate import STAGE as GENERATE
from .stages.generate import GenerateConfig
from .stages.instruct import STAGE as INSTRUCT
from .stages.instruct import InstructConfig
from .stages.judge import STAGE as JUDGE
from .stages.judge import JudgeConfig
from .stages.judgements import STAGE as JUDGEMENTS
from .stages.pair import STAGE as PAIR
from .stages.prompts import STAGE as PROMPTS
from .stages.score import STAGE as SCORE
from .stages.score import ScoreConfig
from .stages.select import STAGE as SELECT
from .stages.select import SelectConfig
from .store import Run

RANDOM_NOTICE = "random weights: the output means nothing"
NARROW_BATCH = 1024  # stages without a model: rows at a time


class SynthesisConfig(Loop):
    """Everything that decides a run's pairs, and how the work is executed."""

    STAGES: ClassVar[tuple[StageDeclaration, ...]] = (
        *(PROMPTS, GENERATE, SCORE, SELECT),
        *(INSTRUCT, ANSWER, JUDGEMENTS, JUDGE, PAIR),
    )

    prompts: PromptsConfig = PromptsConfig()
    generate: GenerateConfig = GenerateConfig()
    score: ScoreConfig = ScoreConfig()
    select: SelectConfig = SelectConfig()
    instruct: InstructConfig = InstructConfig()
    responders: tuple[ResponderConfig, ...] = ()
    judges: tuple[JudgeChoice, ...] = ()
    """Several judges, which `judge.mixture` weighs."""
    judge: JudgeConfig = JudgeConfig()
    pair: PairPolicy = PairPolicy()

    @model_validator(mode="after")
    def _judges_are_weighed(self) -> SynthesisConfig:
        named = [choice.name for choice in self.judges]
        if sorted(named) != sorted(self.judge.mixture):
            raise ValueError(
                f"judge.mixture weighs {', '.join(self.judge.mixture) or 'no judge'}, and judges names "
                f"{', '.join(named) or 'none'}: give every judge one weight, 0 for one that is only to be compared"
            )
        return self

    def settings_of(self, stage: StageDeclaration) -> Any:
        """Return the settings of a stage; drawing prunes by the scorer of `score` where it names none."""
        return self.generate.scored_by(self.score) if stage is GENERATE else super().settings_of(stage)


def synthesize(
    run: Run,
    loop: Loop,
    progress: Progress,
    *,
    discard: bool = False,
    only: Collection[str] | None = None,
    budget: Budget | None = None,
) -> None:
    """Bring a run to its end: begin it, continue it, or find it complete; `only`: as in `tasks_of`.

    Raises PrefmillError where rows would be lost because inputs have changed, unless `discard` says that they may, and
    BudgetSpent where the budget does not cover the next batch.
    """
    for notice in _needed(run, loop, only)[1]:
        progress.notice(notice)
    tasks = tasks_of(run, loop, only)
    with crew_of(loop.executor, tasks, progress) as crew:
        run_tasks(run, tasks, loop.executor, progress, discard=discard, crew=crew, budget=budget)


def plan_run(run: Run, loop: Loop) -> list[Plan]:
    """Return what there is to do for every stage, as far as it can be told now; nothing is written.

    A stage's inputs are those that are there: more come when the stages before it have run. Raises PrefmillError for
    whatever would stop the run before its first stage.
    """
    fingerprints: dict[str, str] = {}
    plans = []
    for task in tasks_of(run, loop):
        plans.append(plan_task(run, task, fingerprints))
        fingerprints[task.name] = plans[-1].fingerprint
    return plans


def tasks_of(run: Run, loop: Loop, only: Collection[str] | None = None) -> list[Task]:
    """Return the stages that this run computes, in order. Raises PrefmillError when it has nothing to start from.

    `only`: names of stages; the rows of all others are taken as they are in the run, whatever made them.
    """
    needed, _ = _needed(run, loop, only)
    given = () if only is None else [stage.name for stage in loop.STAGES if stage.name not in only]
    folders = {stage.name: _folders(run, loop, stage, given=stage.name in given) for stage in loop.STAGES}
    folders = {read.name: [] for stage in needed for read in stage.reads if read.optional} | folders
    for stage in (stage for stage in needed if folders[stage.name]):
        for read in stage.reads:
            if not folders[read.name] and not read.optional:
                raise PrefmillError(f"no {read.setting}: there are no {read.name} for {stage.name}", read.remedy)
    shared: dict[Any, Any] = {}
    again = partial(_task_again, run.folder.resolve(), LoopReference.to(loop), None if only is None else tuple(only))
    return [
        _task(stage, folder, settings, Inputs(run, settings, folders, shared), loop, partial(again, folder))
        for stage in needed
        for folder, settings in stage.instances(loop.settings_of(stage)).items()
        if not is_imported(run, folder)
    ]


def _task_again(folder: Path, reference: LoopReference, only: Collection[str] | None, name: str) -> Task:
    """Return a task of a run as another process needs it, made from what can be sent there."""
    return next(task for task in tasks_of(Run(folder), reference.loop(), only) if task.name == name)


def _needed(run: Run, loop: Loop, only: Collection[str] | None) -> tuple[list[StageDeclaration], list[str]]:
    """Return the stages to compute, and what is left out though it could be wanted."""
    if only is not None:
        return [stage for stage in loop.STAGES if stage.name in only], []
    imported = [folder for folder in run.stages() if is_imported(run, folder)]
    begun = [stage for stage in loop.STAGES if any(stage.owns(folder) for folder in imported)]
    settled = set(_read_by(begun))
    needed = [stage for stage in loop.STAGES if stage not in settled and stage.name not in imported]
    if not needed:
        return [], []
    notices = []
    for stage in loop.STAGES:
        if stage in settled and stage.annotates and stage.name not in imported:
            lacking = [read.name for read in stage.reads if not len(run.dataset(read.name, read.output))]
            if lacking:
                notices.append(f"{stage.name} are left out: this run holds no {', '.join(lacking)}")
            else:
                needed.append(stage)
    return sorted(needed, key=loop.STAGES.index), notices


def _read_by(stages: Iterable[StageDeclaration]) -> Iterable[StageDeclaration]:
    for stage in stages:
        yield from stage.reads
        yield from _read_by(stage.reads)


def _folders(run: Run, loop: Loop, stage: StageDeclaration, *, given: bool) -> list[str]:
    """Return the folders of a stage's instances: the loop's own, then imported ones; those there are, where given."""
    own = stage.instances(loop.settings_of(stage))
    there = [name for name in run.stages() if stage.owns(name)]
    if given:
        return [*(name for name in own if name in there), *(name for name in there if name not in own)]
    return list(dict.fromkeys([*own, *(name for name in there if is_imported(run, name))]))


def _task(
    stage: StageDeclaration, folder: str, settings: Any, inputs: Inputs, loop: Loop, again: Callable[[], Task]
) -> Task:
    checkpoints = tuple(stage.checkpoints(settings))
    entries = loop.settings_of(stage)
    place = f"{stage.setting}.{entries.index(settings)}" if isinstance(entries, tuple) else stage.setting
    engine = loop.engine.of_stage(stage.setting)
    execution = _execution(engine) if checkpoints else {}
    leader = stage.follows
    return Task(
        folder,
        stage.output,
        partial(stage.source, inputs),
        partial(_build, stage, settings, checkpoints, engine),
        _batch_size(settings, place),
        _dependencies(stage, settings, execution, inputs),
        unit=stage.unit,
        fan_out=stage.fan_out(settings),
        follows=leader.name if leader and leader.hands_on(loop.settings_of(leader)) else "",
        reads=tuple(name for read in stage.reads for name in inputs.folders[read.name]),
        setting=place,
        execution=execution,
        checkpoints=checkpoints,
        measure=partial(stage.measure, inputs),
        again=again,
    )


def _batch_size(settings: Any, place: str) -> int:
    size = getattr(settings, "batch_size", NARROW_BATCH)
    if not isinstance(size, int):
        raise PrefmillError(
            f"{place}.batch_size is {size}, which is settled where a recipe's run begins", "give a number"
        )
    return size


def _dependencies(stage: StageDeclaration, settings: Any, execution: dict[str, str], inputs: Inputs) -> dict[str, Any]:
    """Return what a stage's rows depend on besides its inputs.

    Where a model computes, the last bits depend on the precision and on the composition of batches too.
    """
    independent = stage.independent | (set() if execution else {"batch_size"})
    values = settings.model_dump(mode="json", exclude=set(independent))
    if not type(settings).__module__.startswith(f"{__package__}."):
        values["settings"] = type(settings).__qualname__  # a policy of one's own, say, with the fields of another
    values |= {name: execution[name] for name in ("precision", "backend") if name in execution}
    if runtime := stage.runtime(settings):
        values["runtime"] = runtime
    several = [read for read in stage.reads if inputs.folders[read.name] not in ([], [read.name])]
    return values | {
        read.setting: [folder.removeprefix(f"{read.name}-") for folder in inputs.folders[read.name]] for read in several
    }


def _execution(engine: EngineSettings) -> dict[str, str]:
    from ..engine.device import resolve_execution  # torch: only where a model is to run

    execution = resolve_execution(engine)
    return {"precision": execution.precision, "backend": execution.backend, "device": execution.device}


def _build(
    stage: StageDeclaration, settings: Any, checkpoints: tuple[str, ...], engine: EngineSettings
) -> Stage[Any, Any]:
    built = stage.build(settings, engine)
    fallbacks = tuple(runner.fallback for runner in built.runners if runner.fallback)
    built.notices = (*built.notices, *fallbacks)
    if any(checkpoint.startswith(RANDOM_PREFIX) for checkpoint in checkpoints):
        built.notices = (*built.notices, RANDOM_NOTICE)
    return built


def is_imported(run: Run, stage: str) -> bool:
    """Return whether a stage's rows came from outside."""
    return "imported" in run.manifest(stage).get("config", {})


def remake_from(run: Run, loop: Loop, stage: str, progress: Progress, only: Collection[str] | None = None) -> None:
    """Set a stage's rows aside, and those of all stages after it, so that they are made again.

    `only`: as in `tasks_of`. Raises PrefmillError, with every row still in its place, where the stage's inputs cannot
    be had.
    """
    tasks = tasks_of(run, loop, only)
    names = [task.name for task in tasks]
    if stage not in names:
        raise PrefmillError(f"--remake {stage}: this run computes no such stage", f"choose one of {', '.join(names)}")
    remade = tasks[names.index(stage) :]
    remade[0].source()
    for task in remade:
        dataset = run.dataset(task.name, task.output)
        for shard in dataset.shards:
            dataset.set_aside(shard, "remade")
        run.forget_manifest(task.name)
    progress.notice(f"{stage} and the stages after it are made again; the old rows are in their _set-aside folders")
