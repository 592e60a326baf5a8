"""The settings that every backend's trainer gets: data order, learning rate, precision, engine, checkpoints, log.

All trainers are transformers' own or made from it, so that equal settings here are equal trainings.
"""

from __future__ import annotations

import os
from typing import Any

from .job import TrainingJob
from .step_reporter import ReportedJob
from .tracking import tracking_arguments
from .zero2 import zero2_config

_SCHEDULES = {"constant": "constant_with_warmup"}
_KEPT_CHECKPOINTS = 3
"""The newest is complete once it is marked, after the oldest has gone; of the two before it, one may be damaged."""


def trainer_arguments(job: TrainingJob) -> dict[str, Any]:
    """Return keyword arguments of transformers.TrainingArguments for a training on pairs of answers."""
    config = job.config
    return {
        **shared_arguments(job),
        "gradient_checkpointing": config.gradient_checkpointing,
        # the other kind learns nothing in layers whose input needs no gradient
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if config.gradient_checkpointing else None,
        "save_steps": config.save_every,
        "eval_strategy": "steps" if job.held_out else "no",
        "eval_steps": config.eval_every,
    }


def shared_arguments(job: ReportedJob) -> dict[str, Any]:
    """Return those of any training: its settings name them as DPOTrainingConfig does."""
    config = job.config
    return {
        "output_dir": str(job.checkpoints),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": _SCHEDULES.get(config.schedule, config.schedule),
        "warmup_steps": config.warmup_ratio,  # below 1 it is a share of all steps
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_gradient_norm,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulation,
        "bf16": job.precision == "bfloat16",
        "use_cpu": job.device == "cpu",
        "seed": config.seed,
        "deepspeed": zero2_config() if config.zero_stage else None,
        "ddp_backend": "gloo" if job.device == "cpu" and "RANK" in os.environ else None,
        "save_strategy": "steps",
        "save_total_limit": _KEPT_CHECKPOINTS,
        "per_device_eval_batch_size": config.batch_size,
        "logging_strategy": "steps",
        "logging_steps": config.log_every,
        "logging_nan_inf_filter": False,  # it would show the last good loss instead of the NaN
        "remove_unused_columns": False,
        "dataloader_pin_memory": job.device == "cuda",
        "disable_tqdm": True,
        **tracking_arguments(job),
    }
