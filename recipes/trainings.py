"""The trainings at a recipe's end: which there are, in their order, and into which folders of the run they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..base.progress import Progress
from ..engine.scorers.choice import ScorerChoice
from ..train import adapter_training
from ..train.generator import training as generator_training
from ..train.generator.settings import GeneratorTrainingConfig
from ..train.launch import TrainingKind
from ..train.launch_settings import LaunchSettings
from ..train.progress import train_with_progress
from ..train.reward import training as reward_training
from ..train.reward.manifest import REWARD
from ..train.reward.settings import RewardTrainingConfig
from ..train.settings import DPOTrainingConfig
from .recipe import BaseRecipe

TRAINING = "training"
REWARD_TRAINING = "reward-training"
GENERATOR_TRAINING = "generator-training"


@dataclass(frozen=True)
class RecipeTraining:
    """One training: the recipe's field, the folder in the run, and what it loads, by setting."""

    setting: str
    output: Path
    kind: TrainingKind
    config: LaunchSettings
    checkpoints: tuple[tuple[str, str], ...]
    start: Callable[[Path, Progress], object]
    """Trains on the run in a folder, and tells how it goes."""


def trainings_of(recipe: BaseRecipe, folder: Path) -> list[RecipeTraining]:
    """Return a recipe's trainings for the run in `folder`: the reward before the generator that learns from it."""
    found: list[RecipeTraining] = []
    reward, generator = getattr(recipe, "train_reward", None), getattr(recipe, "train_generator", None)
    if isinstance(reward, RewardTrainingConfig):
        found.append(_of_reward(reward, folder / REWARD_TRAINING))
    if isinstance(generator, GeneratorTrainingConfig):
        trained = folder / REWARD_TRAINING / REWARD if isinstance(reward, RewardTrainingConfig) else None
        found.append(_of_generator(generator, folder / GENERATOR_TRAINING, trained))
    if recipe.train is not None:
        found.append(_of_adapter(recipe.train, folder / TRAINING))
    return found


def _of_adapter(config: DPOTrainingConfig, output: Path) -> RecipeTraining:
    def start(run: Path, progress: Progress) -> object:
        return train_with_progress(run, output, config, progress)

    return RecipeTraining("train", output, adapter_training.KIND, config, (("train.model", config.model),), start)


def _of_reward(config: RewardTrainingConfig, output: Path) -> RecipeTraining:
    def start(run: Path, progress: Progress) -> object:
        return reward_training.train_reward_with_progress(run, output, config, progress)

    checkpoints = (("train_reward.model", config.model),)
    return RecipeTraining("train_reward", output, reward_training.KIND, config, checkpoints, start)


def _of_generator(config: GeneratorTrainingConfig, output: Path, reward: Path | None) -> RecipeTraining:
    """`reward` is the one that the recipe trains before it: the generator learns from that."""
    checkpoints = [("train_generator.model", config.model)]
    if reward is not None:
        config = config.model_copy(update={"reward": ScorerChoice(model=str(reward))})
    else:
        checkpoints += [("train_generator.reward", source) for source in config.reward.sources.values()]

    def start(run: Path, progress: Progress) -> object:
        return generator_training.train_generator_with_progress(run, output, config, progress)

    return RecipeTraining("train_generator", output, generator_training.KIND, config, tuple(checkpoints), start)
