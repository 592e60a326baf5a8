"""Training with TRL's DPOTrainer: LoRA on the language model, reference = adapter off, ZeRO-2 below.

TRL's trainer is used as it is, with three public methods' worth of difference: only the adapter is saved, no model
card is written, and the batch comes from our own collator. All frozen weights stay in the model's own precision.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from ..base.errors import PrefmillError
from ..engine.checkpoint import load_strict
from .checkpoints import mark_complete
from .data import preference_dataset
from .job import TrainingJob
from .manifest import Backend
from .zero2 import require_engine, zero2_config

_SCHEDULES = {"constant": "constant_with_warmup"}
_KEPT_CHECKPOINTS = 2  # the newest is not complete before it is marked; the one before it is the safe one


def train(job: TrainingJob) -> None:
    """Train to the last step. Raises PrefmillError for a loss that is no number, and a missing DeepSpeed engine."""
    if job.resume and job.resume.is_last:
        return
    trainer = build_trainer(job)
    trainer.train(resume_from_checkpoint=str(job.resume.path) if job.resume else None)


def build_trainer(job: TrainingJob) -> AdapterTrainer:
    """Return the trainer, with the model loaded and wrapped in its fresh adapter."""
    dtype = torch.bfloat16 if job.precision == "bfloat16" else torch.float32
    # the auto class is typed as its own instances, which it never makes
    model = cast(PreTrainedModel, load_strict(AutoModelForImageTextToText, job.model_folder, dtype=dtype))
    config = job.config
    targets = lora_targets(model)
    adapter = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        bias="none",
    )
    reporter = _Reporter(job, targets)
    trainer = AdapterTrainer(
        model=model,
        args=training_arguments(job),
        data_collator=job.collator,
        train_dataset=preference_dataset(job.pairs, job.images, config.system_prompt),
        processing_class=job.collator.processor,
        peft_config=adapter,
        callbacks=[reporter],
    )
    # the name the user gave: the folder it was read from may be a download cache
    trainer.adapted_model.peft_config["default"].base_model_name_or_path = config.model
    reporter.trainer = trainer
    return trainer


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


def training_arguments(job: TrainingJob) -> DPOConfig:
    """Return TRL's settings for a job."""
    config = job.config
    bfloat16 = job.precision == "bfloat16"
    return DPOConfig(
        output_dir=str(job.checkpoints),
        beta=config.beta,
        loss_type=[config.loss, "sft"] if config.sft_weight else [config.loss],
        loss_weights=[1.0, config.sft_weight] if config.sft_weight else None,
        label_smoothing=config.label_smoothing,
        disable_dropout=config.disable_dropout,
        max_length=None,  # cutting could cut image tokens; pairs that are too long were left out before
        learning_rate=config.learning_rate,
        lr_scheduler_type=_SCHEDULES.get(config.schedule, config.schedule),
        warmup_steps=config.warmup_ratio,  # below 1 it is a share of all steps
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_gradient_norm,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=bfloat16,
        use_cpu=job.device == "cpu",
        seed=config.seed,
        deepspeed=zero2_config() if config.zero_stage else None,
        ddp_backend="gloo" if job.device == "cpu" and torch.distributed.is_torchelastic_launched() else None,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=_KEPT_CHECKPOINTS,
        logging_strategy="steps",
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,  # it would show the last good loss instead of the NaN
        remove_unused_columns=False,
        dataloader_pin_memory=job.device == "cuda",
        report_to="none",
        disable_tqdm=True,
    )


class AdapterTrainer(DPOTrainer):
    """TRL's trainer, saving no more than the adapter."""

    @property
    def adapted_model(self) -> PeftModel:
        """The base model in its adapter, without DeepSpeed's wrapping."""
        return cast(PeftModel, self.model)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter. The base class would gather all weights, and pickle its settings beside them."""
        if self.args.should_save:
            # without the embeddings: looking for resized ones would ask the hub
            self.adapted_model.save_pretrained(str(output_dir or self.args.output_dir), save_embedding_layers=False)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: the manifest says what the adapter is."""


class _Reporter(TrainerCallback):
    """Proves the engine before the first step, writes metrics.jsonl, and marks checkpoints complete."""

    trainer: AdapterTrainer

    def __init__(self, job: TrainingJob, targets: str) -> None:
        self.job, self.targets = job, targets
        self.backend: Backend | None = None
        self.last_time, self.last_epoch = 0.0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = self.trainer.adapted_model
        self.backend = Backend(
            name="trl",
            engine=require_engine(self.trainer.model_wrapped, self.job.config.zero_stage),
            zero_stage=self.job.config.zero_stage,
            precision=self.job.precision,
            device=torch.cuda.get_device_name() if self.job.device == "cuda" else "cpu",
            processes=args.world_size,
            trainable_parameters=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
            lora_targets=self.targets,
        )
        self.last_time, self.last_epoch = time.monotonic(), float(state.epoch or 0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        control.should_log = control.should_log or state.global_step >= state.max_steps

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:  # the summary at the end is no step
            return
        if not math.isfinite(logs["loss"]):
            raise PrefmillError(
                f"the loss is {logs['loss']} at step {state.global_step} (learning rate {logs['learning_rate']:g}, "
                f"precision {self.job.precision})",
                f"lower learning_rate below {self.job.config.learning_rate:g}, or set precision=float32",
            )
        if not state.is_world_process_zero:
            return
        now, epoch = time.monotonic(), float(state.epoch or 0)
        seconds, pairs = now - self.last_time, round((epoch - self.last_epoch) * len(self.job.pairs))
        pace = seconds / (state.global_step % self.job.config.log_every or self.job.config.log_every)
        speed = {"seconds": seconds, "seconds_per_step": pace, "pairs_per_second": pairs / seconds}
        self.last_time, self.last_epoch = now, epoch
        rounded = {name: round(value, 4) for name, value in speed.items()}
        self.job.metrics.append({"step": state.global_step, "steps": state.max_steps, **logs, **rounded})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer.accelerator.wait_for_everyone()  # other processes may still be writing their part
        if state.is_world_process_zero and self.backend:
            folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
            mark_complete(folder, state.global_step, state.max_steps, self.job.notes(self.backend))
