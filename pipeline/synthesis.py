"""The synthesis run: which stages there are, in which order, and what each reads.

    prompts -> candidates -> image_scores -> selections -> instructions -> responses-* -> response_scores -> pairs

A stage whose rows were imported is left as it is, and the run begins after it: images alone, answers alone or
finished pairs are all places to start from.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from pydantic import BaseModel, model_validator

from ..base.errors import PrefmillError
from ..base.progress import Progress
from ..base.settings import Settings
from ..engine.settings import RANDOM_PREFIX, EngineSettings
from . import sources
from .execute.local import run_tasks
from .execute.work import ExecutorConfig
from .pair_policy import PairPolicy
from .prompts import PromptsConfig
from .records import Candidate, Instruction, Pair, Prompt, Response, Score, Selection
from .stage import Source, Stage, Task, digest
from .stages.answer import ResponderConfig
from .stages.generate import GenerateConfig
from .stages.instruct import InstructConfig
from .stages.judge import JudgeConfig
from .stages.score import ScoreConfig
from .stages.select import SelectConfig
from .store import Run
from .summary import stage_names

RANDOM_NOTICE = "random weights: the output means nothing"
NARROW_BATCH = 1024  # stages without a model: rows at a time


class SynthesisConfig(Settings):
    """Everything that decides a run's pairs, and how the work is executed."""

    prompts: PromptsConfig = PromptsConfig()
    generate: GenerateConfig = GenerateConfig()
    score: ScoreConfig = ScoreConfig()
    select: SelectConfig = SelectConfig()
    instruct: InstructConfig = InstructConfig()
    responders: tuple[ResponderConfig, ...] = ()
    judge: JudgeConfig = JudgeConfig()
    pair: PairPolicy = PairPolicy()
    engine: EngineSettings = EngineSettings()
    executor: ExecutorConfig = ExecutorConfig()

    @model_validator(mode="after")
    def _names_are_unique(self) -> SynthesisConfig:
        names = [responder.name for responder in self.responders]
        if len(set(names)) < len(names):
            raise ValueError(f"responders share a name: {', '.join(names)}")
        return self


def synthesize(run: Run, config: SynthesisConfig, progress: Progress) -> None:
    """Bring a run to its pairs: begin it, continue it, or find it complete."""
    imported = {name: manifest["fingerprint"] for name in stage_names(run) if _imported(manifest := run.manifest(name))}
    run_tasks(run, tasks_of(run, config), config.executor, progress, digest(imported) if imported else "")


def tasks_of(run: Run, config: SynthesisConfig) -> list[Task]:
    """Return the stages that this run computes, in order. Raises PrefmillError when it has nothing to start from."""
    if is_imported(run, "pairs"):
        return []
    tasks = [*_image_tasks(run, config), *(_answer_task(run, config, responder) for responder in config.responders)]
    imported = [name for name in sources.responders_of(run) if is_imported(run, sources.responses_folder(name))]
    responders = [*(responder.name for responder in config.responders), *imported]
    if not responders:
        raise PrefmillError(
            "no responders: nobody would answer the instructions",
            "name them in the recipe's `responders`, or import answers with `prefmill import --answers`",
        )
    tasks += _preference_tasks(run, config, responders)
    if is_imported(run, "instructions"):  # they are about images that are there: nothing is drawn, chosen or asked
        unneeded = {"prompts", "candidates", "selections"}
        if not len(run.dataset("prompts", Prompt)):
            unneeded.add("image_scores")  # an image reward scores an image on its prompt
        tasks = [task for task in tasks if task.name not in unneeded]
    elif is_imported(run, "candidates"):
        tasks = [task for task in tasks if task.name != "prompts"]
    return [task for task in tasks if not is_imported(run, task.name)]


def _image_tasks(run: Run, config: SynthesisConfig) -> list[Task]:
    read = config.prompts.model_dump(exclude={"path", "limit"})  # a file may move and grow
    return [
        Task(
            "prompts",
            Prompt,
            partial(_prompt_source, config.prompts),
            lambda: _stage("prompts", "RecordStage"),
            NARROW_BATCH,
            read,
            unit="prompts",
        ),
        Task(
            "candidates",
            Candidate,
            lambda: sources.DatasetSource(run.dataset("prompts", Prompt), lambda row: row),
            lambda: _stage("generate", "GenerateStage", config.generate, config.engine),
            config.generate.batch_size,
            _settings(config.generate, config.engine),
            unit="prompts",
            fan_out=len(config.generate.guidance),
        ),
        Task(
            "image_scores",
            Score,
            partial(sources.prompted_images, run),
            lambda: _stage("score", "ScoreStage", config.score, config.engine),
            config.score.batch_size,
            _settings(config.score, config.engine),
            unit="images",
            # what is scored is what is stored: only a lossless file is the image that was drawn
            follows="candidates" if config.generate.format != "jpeg" else "",
        ),
        Task(
            "selections",
            Selection,
            partial(sources.contests, run),
            lambda: _stage("select", "SelectStage", config.select),
            NARROW_BATCH,
            _settings(config.select),
            unit="prompts",
        ),
        Task(
            "instructions",
            Instruction,
            partial(sources.chosen_images, run),
            lambda: _stage("instruct", "InstructStage", config.instruct, config.engine),
            config.instruct.batch_size,
            _settings(config.instruct, config.engine),
            unit="images",
        ),
    ]


def _answer_task(run: Run, config: SynthesisConfig, responder: ResponderConfig) -> Task:
    return Task(
        sources.responses_folder(responder.name),
        Response,
        partial(sources.questions, run),
        lambda: _stage("answer", "AnswerStage", responder, config.engine),
        responder.batch_size,
        _settings(responder, config.engine),
        unit="answers",
    )


def _preference_tasks(run: Run, config: SynthesisConfig, responders: list[str]) -> list[Task]:
    return [
        Task(
            "response_scores",
            Score,
            partial(sources.panels, run, responders, judged=False),
            lambda: _stage("judge", "JudgeStage", config.judge, config.engine),
            config.judge.batch_size,
            {**_settings(config.judge, config.engine), "responders": responders},
            unit="instructions",
        ),
        Task(
            "pairs",
            Pair,
            partial(sources.panels, run, responders, judged=True),
            lambda: _stage("pair", "PairStage", config.pair),
            NARROW_BATCH,
            _settings(config.pair),
            unit="instructions",
        ),
    ]


def _prompt_source(config: PromptsConfig) -> Source[Any]:
    from .stages.prompts import prompt_source

    return prompt_source(config)


def _stage(module: str, name: str, *arguments: Any) -> Stage[Any, Any]:
    """Build a stage by name, so that a command that computes nothing imports no model library."""
    stage = getattr(import_module(f".stages.{module}", __package__), name)(*arguments)
    if any(str(getattr(argument, "model", "")).startswith(RANDOM_PREFIX) for argument in arguments):
        stage.notices = (*stage.notices, RANDOM_NOTICE)
    return stage


def _settings(config: BaseModel, engine: EngineSettings | None = None) -> dict[str, Any]:
    """Return what a stage's rows depend on: its settings without the batch size, and the precision."""
    settings = config.model_dump(mode="json", exclude={"batch_size"})
    return settings | ({"dtype": engine.dtype} if engine else {})


def is_imported(run: Run, stage: str) -> bool:
    """Return whether a stage's rows came from outside."""
    return _imported(run.manifest(stage))


def _imported(manifest: dict[str, Any]) -> bool:
    return "imported" in manifest.get("config", {})


def remake_from(run: Run, config: SynthesisConfig, stage: str, progress: Progress) -> None:
    """Set a stage's rows aside, and those of all stages after it, so that they are made again."""
    names = [task.name for task in tasks_of(run, config)]
    if stage not in names:
        raise PrefmillError(f"--remake {stage}: this run computes no such stage", f"choose one of {', '.join(names)}")
    for task in tasks_of(run, config)[names.index(stage) :]:
        dataset = run.dataset(task.name, task.output)
        for shard in dataset.shards:
            dataset.set_aside(shard, "remade")
        run.forget_manifest(task.name)
    progress.notice(f"{stage} and the stages after it are made again; the old rows are in their _set-aside folders")
