"""The checks before a run: each yields what would stop it, by the setting that has to be corrected."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..base.errors import PrefmillError
from ..base.paths import user_path
from ..engine.responders.adapter import require_adapter
from ..engine.settings import EngineSettings
from ..pipeline.execute.work import ExecutorConfig
from ..pipeline.generate_settings import GenerateConfig
from ..train.extras import require_libraries
from ..train.launch_settings import LaunchSettings, changed_settings
from ..train.manifest import read_finished, read_plan
from .disk import DiskEstimate, nearest
from .plan import PlannedModel, Problem
from .recipe import BaseRecipe
from .trainings import RecipeTraining

_COMMANDS = {"train": "train", "train_reward": "train reward", "train_generator": "train generator"}


def folder_problems(folder: Path) -> Iterator[Problem]:
    """Yield why a run's folder could not be written to; nothing is created to find out."""
    try:
        user_path(folder, "--to")
    except PrefmillError as error:
        yield Problem.of("--to", error)
        return
    place = nearest(folder)
    reason = "" if os.access(place, os.W_OK | os.X_OK) else "is not writable"
    if not place.is_dir():
        reason = "is not a folder"
    if reason:
        yield Problem("--to", f"cannot write to {folder}: {place} {reason}", "choose another folder with --to")


def is_trained(training: RecipeTraining) -> bool:
    """Return whether a training has been finished."""
    try:
        return read_finished(training.output, training.kind.manifest) is not None
    except PrefmillError:  # `training_problems` says why
        return False


def training_problems(training: RecipeTraining) -> Iterator[Problem]:
    """Yield why a training would not continue in its folder with these settings."""
    folder = training.output
    try:
        begun, _ = read_plan(folder, training.kind.plan), read_finished(folder, training.kind.manifest)
    except PrefmillError as error:
        yield Problem.of(training.setting, error)
        return
    changes = changed_settings(begun.config.model_dump(), training.config.model_dump()) if begun else []
    if changes:
        command = _COMMANDS[training.setting]
        yield Problem(
            training.setting,
            f"{folder} was begun with other settings: {'; '.join(changes)}",
            f"restore them, give --no-train, or train apart: prefmill {command} {folder.parent} --to FOLDER",
        )


def checkpoint_problems(models: Sequence[PlannedModel]) -> Iterator[Problem]:
    """Yield every setting whose checkpoint cannot be had; each source is looked for once."""
    if not models:
        return
    from ..engine.sources import check_checkpoint  # the hub's library: only a run that needs a model waits for it

    found: dict[str, PrefmillError | None] = {}
    for model in models:
        if model.source not in found:
            try:
                check_checkpoint(model.source)
                found[model.source] = None
            except PrefmillError as error:
                found[model.source] = error
        if error := found[model.source]:
            yield Problem.of(model.setting, error)


def adapter_problems(recipe: BaseRecipe, names: Collection[str]) -> Iterator[Problem]:
    """Yield the adapters of generators that are none, of the stages of these names."""
    for stage in recipe.STAGES:
        for name, entry in stage.instances(recipe.settings_of(stage)).items():
            if name in names and isinstance(entry, GenerateConfig) and entry.adapter:
                try:
                    require_adapter(Path(entry.adapter).expanduser())
                except PrefmillError as error:
                    yield Problem.of(f"{stage.setting}.adapter", error)


def device_problems(engine: EngineSettings) -> Iterator[Problem]:
    """Yield why the models cannot be put where the settings say."""
    from ..engine.device import resolve_device  # torch

    try:
        resolve_device(engine)
    except PrefmillError as error:
        yield Problem.of("engine.device", error)


def executor_problems(config: ExecutorConfig) -> Iterator[Problem]:
    """Yield why the workers that the settings ask for cannot be had."""
    if config.engine == "ray":
        from ..pipeline.execute.ray_actors import check_ray

        try:
            check_ray(config)
        except PrefmillError as error:
            yield Problem.of("executor", error)


def trainer_problems(setting: str, config: LaunchSettings) -> Iterator[Problem]:
    """Yield why a training would find no GPU or no library: it comes last, hours after everything else."""
    import torch

    try:
        require_libraries(config)
    except PrefmillError as error:
        yield Problem.of(setting, error)

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cuda" and not gpus:
        yield Problem(f"{setting}.device", "it is 'cuda', but torch sees no GPU here", f"--set {setting}.device=cpu")
    elif config.device != "cpu" and gpus and config.processes > gpus:
        message = f"it is {config.processes}, but torch sees {gpus} GPU(s) here"
        yield Problem(f"{setting}.processes", message, f"--set {setting}.processes={gpus}")


def disk_problems(disk: DiskEstimate | None) -> Iterator[Problem]:
    """Yield that the disk is full long before the end, where that is beyond doubt."""
    if disk is not None and disk.clearly_short:
        yield Problem("disk", disk.text, "make room, choose another folder with --to, or give fewer prompts")
