"""What an image reward is made of: reward -> preferences -> the run's stages, and what its training was and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ...base.errors import PrefmillError
from ...base.files import sha256_of
from ..manifest import Backend, FinishedTraining, StageOrigin, TrainingPlan, read_finished
from .settings import RewardTrainingConfig

REWARD = "reward"
"""The folder of the checkpoint, below a training's output."""
PANELS = {
    "loss": ("loss", "eval_loss"),
    "margin": ("margin", "eval_margin"),
    "accuracy": ("accuracy", "eval_accuracy"),
    "learning rate": ("learning_rate",),
}


class RewardPlan(TrainingPlan[RewardTrainingConfig]):
    """That of an image reward by preferences between images."""

    kind: str = "reward"

    unit: ClassVar[str] = "preferences"


class RewardManifest(FinishedTraining):
    """See the module. Seconds count the trainings whose work is in the reward, not what a kill threw away."""

    reward_sha256: str
    start: str
    start_key: str
    run: str
    stages: dict[str, StageOrigin]
    pairs: int
    pairs_digest: str
    """Over the preferences that were trained on, as `held_out_digest` is over those that were not."""
    held_out: int
    held_out_digest: str | None
    prompts: int
    images: int
    """Trained on."""
    truncated_prompts: int
    """Prompts, held-out ones among them, of which only the first 35 tokens are read."""
    config: RewardTrainingConfig
    backend: Backend
    best_step: int
    """After which the weights were kept."""
    validation: dict[str, float]
    """Loss, accuracy and margin of the kept weights on the pairs held out; accuracy/ASPECT where there are several."""
    reward_mean: float
    reward_deviation: float
    """Of the raw reward over the images trained on; scores are standardised by them."""
    loss: dict[str, Any]
    """first, last, lowest, and `curve`: up to 20 [step, loss, margin, accuracy]."""
    seconds: float
    """Wall time, loading included."""
    device_seconds: float
    """Time in training steps and evaluations, summed over processes."""
    versions: dict[str, str]
    hardware: dict[str, str]


def read_reward_manifest(output: Path) -> RewardManifest | None:
    """Return the manifest of a finished image reward, None when it is not finished."""
    return read_finished(output, RewardManifest)


def check_reward(output: Path) -> None:
    """Raise PrefmillError where the checkpoint in a finished output is not the one that its manifest names."""
    manifest = read_reward_manifest(output)
    folder = output / REWARD
    if manifest and (not folder.is_dir() or sha256_of(folder) != manifest.reward_sha256):
        raise PrefmillError(
            f"{folder} is not what the training in {output} wrote", f"restore it, or move {output} away to train anew"
        )
