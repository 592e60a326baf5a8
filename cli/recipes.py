"""Recipes: a run is a Python function that returns one configuration, to read, to print, and to override.

prefmill recipe list                      what there is
prefmill recipe show pds-dpo              the whole configuration as YAML
prefmill run pds-dpo --set generate.guidance=[3,5]
prefmill run mine.yaml                    a saved and edited one
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..engine.errors import PrefmillError
from ..engine.micro.language import DESCRIBE_INSTRUCTIONS
from ..engine.settings import MICRO_CHECKPOINTS, Sampling
from ..pipeline.pair_policy import PairPolicy
from ..pipeline.stages.answer import ResponderConfig
from ..pipeline.stages.generate import GenerateConfig
from ..pipeline.stages.instruct import InstructConfig
from ..pipeline.stages.judge import JudgeConfig
from ..pipeline.stages.score import ScoreConfig
from ..pipeline.synthesis import SynthesisConfig
from ..pipeline.work import ExecutorConfig
from ..train.dpo import DPOTrainingConfig
from .settings import from_yaml

MICRO_NAMES = (
    *("text-to-image", "image-reward", "clip", "policy", "text-reward"),
    *(f"responder-{letter}" for letter in "abcd"),
)


class Recipe(SynthesisConfig):
    """A whole loop: the synthesis of pairs, and the training on them (None: stop at the pairs)."""

    train: DPOTrainingConfig | None = None


def pds_dpo() -> Recipe:
    """The paper's loop: SD3-medium, ImageReward, three LLaVA-1.6 responders, ArmoRM, LoRA DPO of LLaVA-1.5-7B."""
    models = ("llava-v1.6-mistral-7b", "llava-v1.6-vicuna-7b", "llava-v1.6-vicuna-13b")
    return Recipe(
        responders=tuple(
            ResponderConfig(name=model, model=f"llava-hf/{model}-hf", sampling=Sampling(max_new_tokens=1000))
            for model in models
        ),
        train=DPOTrainingConfig(),
    )


def tiny() -> Recipe:
    """The same loop with tiny random checkpoints made on the spot: exercises everything, means nothing."""
    sampling = Sampling(max_new_tokens=24, temperature=1.0)
    return Recipe(
        generate=GenerateConfig(model="random:text-to-image", steps=4, batch_size=4),
        score=ScoreConfig(model="random:image-reward"),
        responders=tuple(
            ResponderConfig(name=letter, model=f"random:responder-{letter}", sampling=sampling) for letter in "abc"
        ),
        judge=JudgeConfig(model="random:text-reward"),
        # random weights write random bytes: no language to check
        pair=SynthesisConfig().pair.model_copy(update={"same_language": False}),
        executor=ExecutorConfig(commit_seconds=5.0),
        train=DPOTrainingConfig(
            model="random:policy", lora_rank=8, lora_alpha=16, learning_rate=1e-3, epochs=1, accumulation=1
        ),
    )


def micro() -> Recipe:
    """The loop on the micro world, with the trained checkpoints that come with the package: minutes on two cores."""
    return Recipe(
        generate=GenerateConfig(model="micro:text-to-image", steps=16, t5_tokens=0, batch_size=16),
        score=ScoreConfig(model="micro:image-reward", batch_size=64),
        instruct=InstructConfig(templates=DESCRIBE_INSTRUCTIONS, batch_size=64),
        responders=tuple(
            ResponderConfig(
                name=letter,
                model=f"micro:responder-{letter}",
                sampling=Sampling(max_new_tokens=48, temperature=0.7),
                batch_size=64,
            )
            for letter in "abcd"
        ),
        # a text-only judge can only tell an invented object where it reads what the image should show
        judge=JudgeConfig(model="micro:text-reward", context="prompt", batch_size=32),
        pair=PairPolicy(same_language=False, minimum_words=4),
        train=DPOTrainingConfig(
            model="micro:policy",
            lora_rank=16,
            lora_alpha=32,
            learning_rate=2e-4,
            # without it yes/no questions come to be answered with a colour: less likely than either of the pair
            sft_weight=0.2,
            epochs=2,
            batch_size=32,
            accumulation=1,
            save_every=1000,
        ),
    )


def imported() -> Recipe:
    """For a run of imported images and answers: score, judge, pair and train with the paper's models."""
    return pds_dpo().model_copy(update={"responders": ()})


RECIPES: dict[str, Callable[[], Recipe]] = {"tiny": tiny, "pds-dpo": pds_dpo, "imported": imported}
if all((MICRO_CHECKPOINTS / name).is_dir() for name in MICRO_NAMES):  # trained, not written: a checkout may lack some
    RECIPES = {"micro": micro, **RECIPES}


def load_recipe(name: str) -> Recipe:
    """Return a recipe by name or from a YAML file. Raises PrefmillError when there is neither."""
    if name in RECIPES:
        return RECIPES[name]()
    path = Path(name).expanduser()
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return from_yaml(Recipe, path.read_text(encoding="utf-8"), str(path))
    raise PrefmillError(f"there is no recipe {name!r}", f"choose one of {', '.join(RECIPES)}, or give a .yaml file")
