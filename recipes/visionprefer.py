"""VisionPrefer (arXiv 2404.15100) as far as it is public: several generators, a chat model that rates, preferences."""

from __future__ import annotations

from typing import Literal

from ..pipeline.annotating.settings import AnnotatorChoice
from ..pipeline.generate_settings import GeneratorConfig
from ..pipeline.vision_prefer import VisionPreferLoop
from ..train.generator.settings import GeneratorTrainingConfig
from ..train.reward.settings import RewardTrainingConfig
from .recipe import BaseRecipe


class VisionPreferRecipe(BaseRecipe, VisionPreferLoop):
    """VisionPrefer's loop, and the trainings on its preferences: of an image reward, and of a generator by it."""

    loop: Literal["visionprefer"] = "visionprefer"
    train_reward: RewardTrainingConfig | None = None
    train_generator: GeneratorTrainingConfig | None = None
    """Where a reward is trained, the generator learns from that one, whatever its own `reward` says."""


def visionprefer() -> VisionPreferRecipe:
    """VisionPrefer's loop: images of two generators, rated by GPT-4o on four aspects, become preferences.

    An image reward is trained on them, and a generator by that reward.

    The paper: prompts of DiffusionDB; four images each, of SD 1.5, SD 2.1, Dreamlike Photoreal 2.0 and SDXL, at
    guidance scales that are not published; GPT-4V rates each 1 to 5 on the four aspects, with a rationale. Ours: the
    generators, which are of the kind that is drawn with here, the scales, the rubrics and requests, the annotator's
    successor, and the formula that makes preferences of ratings.
    """
    return VisionPreferRecipe(
        generators=(
            GeneratorConfig(name="sd3-medium", guidance=(4.0, 7.0)),
            GeneratorConfig(
                name="sd35-medium", model="stabilityai/stable-diffusion-3.5-medium", guidance=(3.5, 6.0), steps=40
            ),
        ),
        annotators=(AnnotatorChoice(name="gpt-4o", model="gpt-4o", backend="openai"),),
        train_reward=RewardTrainingConfig(),
        train_generator=GeneratorTrainingConfig(method="ppo", width=512, height=512),
    )
