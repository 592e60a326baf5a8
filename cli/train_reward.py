"""`prefmill train reward RUN`: an image reward on the run's preferences between images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from ..pipeline.store import Run
from ..recipes.settings import override
from ..train.reward.manifest import REWARD, RewardManifest
from ..train.reward.settings import RewardTrainingConfig
from ..train.reward.training import train_reward_with_progress
from .progress import watched


def train_reward_command(folder: Path, to: Path | None, micro: bool, settings: Sequence[str], as_json: bool) -> None:
    """Train, or continue to, and print where the reward is and how well it does on what was held out."""
    from ..recipes.micro_reward import micro_reward

    Run.open(folder)
    output = to or folder / "reward-training"
    config = override(micro_reward() if micro else RewardTrainingConfig(), settings)
    with watched(f"prefmill train reward {folder} --to {output}") as progress:
        manifest = train_reward_with_progress(folder, output, config, progress)
    typer.echo(manifest.model_dump_json() if as_json else f"reward: {output / REWARD}; {_quality(manifest)}")


def _quality(manifest: RewardManifest) -> str:
    if not manifest.held_out:
        return "nothing was held out"
    aspects = {name.partition("/")[2]: value for name, value in manifest.validation.items() if "/" in name}
    each = f" ({', '.join(f'{name} {value:.3f}' for name, value in aspects.items())})" if aspects else ""
    return (
        f"accuracy {manifest.validation['accuracy']:.3f}{each} on {manifest.held_out} pairs held out, "
        f"best after step {manifest.best_step} of {manifest.steps}"
    )
