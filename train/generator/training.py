"""A generator's training on the prompts of a run: what the command line, recipes and programs call."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ...base.progress import Progress
from ..launch import OnEvent, TrainingKind, launch, require_apart
from ..manifest import ADAPTER
from ..shown import shown
from .manifest import PANELS, GeneratorManifest, GeneratorPlan, check_product
from .settings import GeneratorTrainingConfig

_COLUMNS = {
    "loss": ".4g",
    **dict.fromkeys(("reward", "accuracy", "kl", "diversity", "eval_reward", "eval_diversity"), ".3g"),
}
KIND = TrainingKind("generator", GeneratorPlan, GeneratorManifest, ADAPTER, check_product, PANELS)


def train_generator(
    run_folder: Path, output: Path, config: GeneratorTrainingConfig, on_event: OnEvent = lambda event: None
) -> GeneratorManifest:
    """Tune a generator on a run's prompts, or continue a training that was stopped; return its manifest.

    `output` holds, at the end, adapter/ in peft's layout, samples/, and what `launch` says. Raises PrefmillError as
    that does, and for a run without prompts or, where they teach, without preferences between images.
    """
    from .preferences import digest_of, load_image_pairs, load_prompts

    output = output.absolute()
    require_apart(output, run_folder)
    ids = [prompt.id for prompt in load_prompts(run_folder)]
    if config.learns_from_preferences:
        ids += [pair.id for pair in load_image_pairs(run_folder, config.flow_dpo.aspect)]
    plan = GeneratorPlan(
        run=str(run_folder.absolute()), examples=len(ids), examples_digest=digest_of(ids), config=config
    )
    return cast(GeneratorManifest, launch(KIND, plan, output, on_event))


def train_generator_with_progress(
    run_folder: Path, output: Path, config: GeneratorTrainingConfig, progress: Progress, name: str = "generator"
) -> GeneratorManifest:
    """Train and report every step, and return the manifest."""
    return train_generator(run_folder, output, config, shown(progress, name, _COLUMNS))
