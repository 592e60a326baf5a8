"""What a training made, and of what: adapter -> pairs -> engines -> weights, and what it was and cost.

Two files tell it. `training.json` is written before the first step and says what was begun; a training continues
only when it still describes the same work. `manifest.json` is written last: where it is, the training is finished.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..base.errors import PrefmillError
from ..base.files import write_text
from ..engine.responders.adapter import MANIFEST
from .launch_settings import LaunchSettings, changed_settings
from .settings import DPOTrainingConfig

if TYPE_CHECKING:
    from ..pipeline.store import Run  # pyarrow: a command line that only reads manifests does without

ADAPTER = "adapter"
PLAN = "training.json"
_CURVE_POINTS = 20

Content = TypeVar("Content", bound=BaseModel)
Config = TypeVar("Config", bound=LaunchSettings)
Plan = TypeVar("Plan", bound="TrainingPlan[Any]")


class TrainingPlan(BaseModel, Generic[Config]):
    """What a training folder was begun with; each kind of training has its own, with its settings as `config`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    run: str
    examples: int
    examples_digest: str
    config: Config
    model_key: str | None = None
    """Name and content digest of the base model; known once the first worker has read it."""

    unit: ClassVar[str] = "examples"

    def require_same(self, before: Self, output: Path) -> None:
        """Raise PrefmillError, naming what differs, when `before` is another work than this one."""
        changes = changed_settings(before.config.model_dump(), self.config.model_dump())
        if before.examples_digest != self.examples_digest:
            unit = self.unit
            changes.append(f"the {unit} of {self.run} are not the {before.examples} {unit} it was begun with")
        if self.model_key and before.model_key and self.model_key != before.model_key:
            changes.append(f"the model was {before.model_key}, now {self.model_key}")
        if changes:
            raise PrefmillError(
                f"{output} was begun with other settings: {'; '.join(changes)}",
                "choose another output folder, or restore the settings to continue this one",
            )


class PreferencePlan(TrainingPlan[DPOTrainingConfig]):
    """That of an adapter by preferences between answers."""

    kind: str = "preference"

    unit: ClassVar[str] = "pairs"


class FinishedTraining(BaseModel):
    """What every manifest of a finished training says, whatever it trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int


class Backend(BaseModel):
    """What really trained: not what was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    engine: str
    zero_stage: int
    precision: str
    device: str
    processes: int
    trainable_parameters: int
    lora_targets: str
    attention: str = ""
    """How backend=shared attends within pairs."""
    notes: tuple[str, ...] = ()
    """What was done in another way than asked for, and why; what was kept in caches."""


class StageOrigin(BaseModel):
    """A stage of the run that made the pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    models: list[str]


class AdapterManifest(FinishedTraining):
    """See the module. Seconds count the trainings whose work is in the adapter, not what a kill threw away."""

    adapter_sha256: str
    adapter_config_sha256: str
    base_model: str
    base_model_key: str
    run: str
    stages: dict[str, StageOrigin]
    pairs: int
    pairs_digest: str
    held_out: int = 0
    """Pairs that were evaluated and not trained on; `held_out_digest` is over them as `pairs_digest` is over those."""
    held_out_digest: str | None = None
    excluded: dict[str, list[str]]
    """Ids of the pairs that were not trained on, by reason."""
    config: DPOTrainingConfig
    backend: Backend
    loss: dict[str, Any]
    """first, last, lowest, and `curve`: up to 20 [step, loss, reward margin, reward accuracy]."""
    seconds: float
    """Wall time, loading included."""
    device_seconds: float
    """Time in training steps and evaluations, summed over processes."""
    versions: dict[str, str]
    hardware: dict[str, str]
    evaluation: dict[str, Any] | None = None
    """What a quick evaluation before and after came to, where one was asked for."""


def read_plan(output: Path, kind: type[Plan]) -> Plan | None:
    """Return what the folder was begun with, None when nothing was. Raises PrefmillError for another kind's."""
    return _read(output / PLAN, kind)


def kind_of(output: Path) -> str | None:
    """Return which kind of training a folder was begun with."""
    try:
        return json.loads((output / PLAN).read_bytes())["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_manifest(output: Path) -> AdapterManifest | None:
    """Return the manifest of an adapter by preferences, None when its training is not finished."""
    return read_finished(output, AdapterManifest)


def read_finished(output: Path, kind: type[Content]) -> Content | None:
    """Return the manifest of a finished training of some kind, None when it is not finished."""
    return _read(output / MANIFEST, kind)


def write(path: Path, content: BaseModel) -> None:
    """Write a plan or a manifest as JSON, whole or not at all."""
    write_text(path, content.model_dump_json(indent=2) + "\n")


def stages_of(run: Run) -> dict[str, StageOrigin]:
    """Return fingerprint and model keys of every stage in a run, by name."""
    stages = {}
    for name in run.stages():
        manifest = run.manifest(name)
        models = [str(key) for key in manifest.get("models", [])]
        stages[name] = StageOrigin(fingerprint=str(manifest["fingerprint"]), models=models)
    return stages


_CURVE_COLUMNS = ("step", "loss", "rewards/margins", "rewards/accuracies")


def summarize(lines: list[dict[str, float]], columns: Sequence[str] = _CURVE_COLUMNS) -> dict[str, Any]:
    """Return the loss curve in short, from the lines of metrics.jsonl."""
    if not lines:
        return {}
    losses = [line["loss"] for line in lines]
    stride = max(1, -(-len(lines) // _CURVE_POINTS))
    shown = [*lines[:-1:stride], lines[-1]]
    return {
        "first": losses[0],
        "last": losses[-1],
        "lowest": min(losses),
        "curve": [[line.get(key) for key in columns] for line in shown],
    }


def _read(path: Path, kind: type[Content]) -> Content | None:
    if not path.exists():
        return None
    try:
        return kind.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise PrefmillError(
            f"{path} cannot be read: it was written by another version, or is damaged",
            f"choose another output folder, or move {path.parent} away",
        ) from error
