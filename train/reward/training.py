"""An image reward trained on a run's preferences: what the command line, recipes and programs call."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ...base.progress import Progress
from ..launch import OnEvent, TrainingKind, launch, require_apart
from ..nodes import require_work
from ..shown import shown
from .manifest import PANELS, REWARD, RewardManifest, RewardPlan, check_reward, read_reward_manifest
from .settings import RewardTrainingConfig

_COLUMNS = {"loss": ".4f", "accuracy": ".2f", "eval_accuracy": ".3f"}
KIND = TrainingKind("reward", RewardPlan, RewardManifest, REWARD, check_reward, PANELS)


def train_reward(
    run_folder: Path, output: Path, config: RewardTrainingConfig, on_event: OnEvent = lambda event: None
) -> RewardManifest:
    """Train an image reward, or continue a training that was stopped; return its manifest.

    `output` holds, at the end, reward/, a checkpoint of the scorer `imagereward`, and what `launch` says. Raises
    PrefmillError as that does, and for preferences that cannot be trained on.
    """
    from .data import load_preferences, preferences_digest, split_preferences

    output = output.absolute()
    require_apart(output, run_folder)
    margins = config.margin_weight == "linear"
    preferences = load_preferences(run_folder, config.aspects, margins=margins)
    trained, _ = split_preferences(preferences, config.validation_share)
    if read_reward_manifest(output) is None:
        require_work(config, len({one.prompt_id for one in trained}), config.batch_size, "prompts")
    plan = RewardPlan(
        run=str(run_folder.absolute()),
        examples=len(preferences),
        examples_digest=preferences_digest(preferences, margins=margins),
        config=config,
    )
    return cast(RewardManifest, launch(KIND, plan, output, on_event))


def train_reward_with_progress(
    run_folder: Path, output: Path, config: RewardTrainingConfig, progress: Progress, name: str = "reward"
) -> RewardManifest:
    """Train and report every step, and return the manifest."""
    columns = {"loss": ".4f", "accuracy": ".2f", "eval_accuracy": ".3f"}
    return train_reward(run_folder, output, config, shown(progress, name, columns))
