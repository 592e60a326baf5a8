"""PDS-DPO as published (arXiv 2412.17417), with the official checkpoints."""

from __future__ import annotations

from ..engine.settings import Sampling
from ..pipeline.stages.answer import ResponderConfig
from ..pipeline.stages.instruct import InstructConfig
from ..train.settings import DPOTrainingConfig
from .recipe import Recipe


def pds_dpo() -> Recipe:
    """The paper's loop: SD3-medium, ImageReward, four LLaVA-1.6 responders, ArmoRM, LoRA DPO of LLaVA-1.5-7B."""
    models = ("llava-v1.6-mistral-7b", "llava-v1.6-vicuna-7b", "llava-v1.6-vicuna-13b", "llama3-llava-next-8b")
    return Recipe(
        # the paper asks GPT-4: instruct.order=[field,model], and instruct.model and instruct.backend to ask
        instruct=InstructConfig(order=("field", "grammar")),
        responders=tuple(
            ResponderConfig(name=model, model=f"llava-hf/{model}-hf", sampling=Sampling(max_new_tokens=1000))
            for model in models
        ),
        train=DPOTrainingConfig(),
    )
