"""The loop on tiny checkpoints with random weights: every step is real, and nothing that comes out means anything."""

from __future__ import annotations

from ..engine.settings import Sampling
from ..pipeline.execute.work import ExecutorConfig
from ..pipeline.pair_policy import PairPolicy
from ..pipeline.stages.answer import ResponderConfig
from ..pipeline.stages.generate import GenerateConfig
from ..pipeline.stages.judge import JudgeConfig
from ..pipeline.stages.score import ScoreConfig
from ..train.settings import DPOTrainingConfig
from .recipe import Recipe


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
        # random weights write random bytes: neither language nor markup means anything
        pair=PairPolicy(same_language=False, refuse_artifacts=False, maximum_generic=1.0, length_ratio=None),
        executor=ExecutorConfig(commit_seconds=5.0),
        train=DPOTrainingConfig(
            model="random:policy", lora_rank=8, lora_alpha=16, learning_rate=1e-3, epochs=1, accumulation=1
        ),
    )
