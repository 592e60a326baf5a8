"""The loop on the micro world, whose truth is exact: what `make demo` runs."""

from __future__ import annotations

from ..engine.settings import Sampling
from ..micro.world.language import DESCRIBE_INSTRUCTIONS
from ..pipeline.pair_policy import PairPolicy
from ..pipeline.stages.answer import ResponderConfig
from ..pipeline.stages.generate import GenerateConfig
from ..pipeline.stages.instruct import InstructConfig
from ..pipeline.stages.judge import JudgeConfig
from ..pipeline.stages.score import ScoreConfig
from ..train.settings import DPOTrainingConfig
from .recipe import Recipe


def micro() -> Recipe:
    """The loop on the micro world, with the trained checkpoints that come with the package: minutes on two cores."""
    return Recipe(
        generate=GenerateConfig(model="micro:text-to-image", steps=8, t5_tokens=0, batch_size=16),
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
            # sigmoid's DPO makes both answers of a pair less likely, until yes/no questions are answered with a colour;
            # a term that holds the chosen answers helps, but teaches without any preference as well
            loss="sppo_hard",
            beta=0.05,
            # what a pair taught in one order is only taken back at the same rate
            schedule="constant",
            learning_rate=3e-4,
            epochs=2,
            batch_size=32,
            accumulation=1,
            save_every=1000,
        ),
    )
