"""The LoRA adapter of a training: where it sits, how it is made from a seed, and how a trainer saves it alone."""

from __future__ import annotations

from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from ..base.errors import PrefmillError
from .settings import DPOTrainingConfig


def lora_config(config: DPOTrainingConfig, targets: str) -> LoraConfig:
    """Return peft's settings of an adapter on the modules that `targets` matches."""
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        bias="none",
    )


def lora_targets(model: PreTrainedModel) -> str:
    """Return a pattern of the module names of all linear layers in the language model, and of no other module."""
    decoder = model.get_decoder()
    names = {module: name for name, module in model.named_modules()}
    prefix = names.get(decoder)
    leaves = sorted(
        {name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, torch.nn.Linear)}
    )
    if not prefix or not leaves:
        raise PrefmillError(
            f"{type(model).__name__} has no language model of its own that LoRA could be put on",
            "set model to a LLaVA checkpoint, such as llava-hf/llava-1.5-7b-hf",
        )
    return rf"{prefix.replace('.', chr(92) + '.')}\..*\.({'|'.join(leaves)})"


class AdapterSaving:
    """Mixed into a transformers Trainer whose model is a PeftModel: no more than the adapter is saved."""

    args: Any
    model: Any

    @property
    def adapted_model(self) -> PeftModel:
        """The base model in its adapter, without DeepSpeed's wrapping."""
        return cast(PeftModel, self.model)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter. The base class would gather all weights, and pickle its settings beside them."""
        if self.args.should_save:
            # without the embeddings: looking for resized ones would ask the hub
            self.adapted_model.save_pretrained(str(output_dir or self.args.output_dir), save_embedding_layers=False)
