"""VisionPrefer's loop on the micro world, whose truth is exact."""

from __future__ import annotations

from ..engine.settings import Sampling
from ..pipeline.annotating.settings import AnnotatorChoice
from ..pipeline.generate_settings import GeneratorConfig
from .generator_tuning import micro
from .micro_reward import micro_reward
from .visionprefer import VisionPreferRecipe


def visionprefer_micro() -> VisionPreferRecipe:
    """VisionPrefer's loop on the micro world, with the trained checkpoints that come with the package."""
    from ..micro.world.aspects import RUBRICS

    drawing = {"model": "micro:text-to-image", "t5_tokens": 0, "batch_size": 16}
    return VisionPreferRecipe(
        generators=(
            GeneratorConfig(name="hasty", guidance=(1.0, 3.0), steps=8, **drawing),
            GeneratorConfig(name="patient", guidance=(3.0, 7.0), steps=16, **drawing),
        ),
        annotators=(
            AnnotatorChoice(
                name="annotator-a",
                model="micro:annotator-a",
                rubrics=RUBRICS,
                presentations=2,
                sampling=Sampling(max_new_tokens=96),
                batch_size=16,
            ),
        ),
        train_reward=micro_reward(),
        train_generator=micro(),
    )
