"""What a generator's training was begun with, and what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ...engine.responders.adapter import check_adapter
from ..curves import Panels
from ..manifest import ADAPTER, Backend, FinishedTraining, StageOrigin, TrainingPlan
from .settings import GeneratorTrainingConfig

PANELS: Panels = {
    "loss": ("loss",),
    "reward": ("reward", "eval_reward"),
    "spread of the reward": ("reward_std", "eval_reward_std"),
    "diversity": ("diversity", "eval_diversity"),
    "distance from the reference": ("kl", "margin"),
    "ratio": ("ratio",),
    "shares": ("clip_share", "accuracy", "reached_share"),
    "norm of the gradient": ("grad_norm",),
}


class GeneratorPlan(TrainingPlan[GeneratorTrainingConfig]):
    """That of an adapter of a text-to-image model. Its examples are prompts, with preferences where they teach."""

    kind: str = "generator"

    unit: ClassVar[str] = "prompts and preferences"


class GeneratorManifest(FinishedTraining):
    """An adapter and what it is made of; `config` names the method and the reward."""

    adapter_sha256: str
    adapter_config_sha256: str
    base_model: str
    base_model_key: str
    reward_key: str
    run: str
    stages: dict[str, StageOrigin]
    prompts: int
    pairs: int
    """Preferences between images that were learnt from; 0 where pairs were drawn on the way, or there are none."""
    examples_digest: str
    config: GeneratorTrainingConfig
    backend: Backend
    summary: dict[str, Any]
    """loss, and the samples' reward and diversity before the first and after the last step."""
    seconds: float
    """Wall time, loading included."""
    device_seconds: float
    versions: dict[str, str]
    hardware: dict[str, str]


def check_product(output: Path) -> None:
    """Raise PrefmillError where the adapter is not what its manifest says."""
    check_adapter(output / ADAPTER)
