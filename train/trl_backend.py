"""Training with TRL's DPOTrainer: LoRA on the language model, reference = adapter off, ZeRO-2 below.

TRL's trainer is used as it is, with three public methods' worth of difference: only the adapter is saved, no model
card is written, and the batch comes from our own collator. All frozen weights stay in the model's own precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from .adapter import AdapterSaving, lora_config, lora_targets
from .arguments import trainer_arguments
from .base_model import load_base
from .data import preference_dataset
from .job import TrainingJob
from .reporter import Reporter
from .tracking import tracking_callbacks


def train(job: TrainingJob, notes: Sequence[str] = ()) -> None:
    """Train to the last step; `notes` go into the manifest.

    Raises PrefmillError for a loss that is no number, and a missing DeepSpeed engine.
    """
    if job.resume and job.resume.is_last:
        return
    trainer = build_trainer(job, notes)
    trainer.train(resume_from_checkpoint=str(job.resume.path) if job.resume else None)


def build_trainer(job: TrainingJob, notes: Sequence[str] = ()) -> AdapterTrainer:
    """Return the trainer, with the model loaded and wrapped in its fresh adapter."""
    # the auto class is typed as its own instances, which it never makes
    model = cast(PreTrainedModel, load_base(AutoModelForImageTextToText, job))
    config = job.config
    targets = lora_targets(model)
    reporter = Reporter(job, "trl", targets, notes)
    trainer = AdapterTrainer(
        model=model,
        args=training_arguments(job),
        data_collator=job.collator,
        train_dataset=preference_dataset(job.pairs, job.images, config.system_prompt),
        eval_dataset=preference_dataset(job.held_out, job.images, config.system_prompt) if job.held_out else None,
        processing_class=job.collator.processor,
        peft_config=lora_config(config, targets),
        callbacks=[reporter, *tracking_callbacks(job)],
    )
    if config.base_bits:
        # TRL has rounded the adapter to bfloat16, in which small steps are lost; the engine keeps what it needs of it
        for weight in trainer.adapted_model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(torch.float32)
    # the name the user gave: the folder it was read from may be a download cache
    trainer.adapted_model.peft_config["default"].base_model_name_or_path = config.model
    reporter.trainer = trainer
    return trainer


def training_arguments(job: TrainingJob) -> DPOConfig:
    """Return TRL's settings for a job."""
    config = job.config
    return DPOConfig(
        beta=config.beta,
        loss_type=[config.loss, "sft"] if config.sft_weight else [config.loss],
        loss_weights=[1.0, config.sft_weight] if config.sft_weight else None,
        label_smoothing=config.label_smoothing,
        disable_dropout=config.disable_dropout,
        max_length=None,  # cutting could cut image tokens; pairs that are too long were left out before
        **trainer_arguments(job),
    )


class AdapterTrainer(AdapterSaving, DPOTrainer):
    """TRL's trainer, saving no more than the adapter."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: the manifest says what the adapter is."""
