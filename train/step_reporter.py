"""What any trainer tells the outside: its engine, a line of metrics per step, and which checkpoints are whole."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..base.errors import PrefmillError
from .checkpoints import Checkpoint, CheckpointNotes, mark_complete
from .events import MetricsFile, say
from .manifest import Backend
from .usage import resources
from .zero2 import require_engine


class ReportedTrainer(Protocol):
    """What the reporter asks of a trainer."""

    accelerator: Any
    model: Any
    model_wrapped: Any


class ReportedJob(Protocol):
    """What the reporter asks of a job; `config` are LaunchSettings with a learning rate, `pairs` what is trained on."""

    @property
    def output(self) -> Path: ...

    @property
    def resume(self) -> Checkpoint | None: ...

    @property
    def config(self) -> Any: ...

    @property
    def pairs(self) -> Sequence[Any]: ...

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def checkpoints(self) -> Path: ...

    @property
    def metrics(self) -> MetricsFile: ...

    def notes(self, backend: Backend) -> CheckpointNotes: ...


class StepReporter(TrainerCallback):
    """Proves the engine before the first step, writes metrics.jsonl, and marks checkpoints complete.

    What a kind of training has to say beyond that, a subclass adds in `begin`, `describe` and `warn`.
    """

    trainer: ReportedTrainer

    def __init__(
        self, job: ReportedJob, name: str, targets: str = "", notes: Sequence[str] = (), attention: str = ""
    ) -> None:
        if job.resume:
            job.resume.require_same(name=name, lora_targets=targets, attention=attention)
        self.job, self.name, self.targets, self.notes, self.attention = job, name, targets, list(notes), attention
        self.backend: Backend | None = None
        self.last_time, self.last_epoch = 0.0, 0.0
        self.held: dict[str, float] = {}
        self.device_seconds, self.world_size = 0.0, 1
        self.warnings: list[str] = []

    def begin(self, before: Sequence[dict[str, float]], known: Sequence[str]) -> None:
        """Take note of the lines, and of what was noted, of a training that is continued."""

    def describe(self, logs: dict[str, float], pairs: int, seconds: float) -> dict[str, float]:
        """Return further columns for the line of steps that took `pairs` and so long."""
        return {}

    def warn(self, line: dict[str, float]) -> str | None:
        """Return what a user has to hear of a line."""
        return None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.world_size = args.world_size
        before = self.job.metrics.read()
        self.begin(before, self.job.resume.notes.backend.notes if self.job.resume else ())
        weights = self.trainer.model.parameters()
        self.backend = Backend(
            name=self.name,
            engine=require_engine(self.trainer.model_wrapped, self.job.config.zero_stage),
            zero_stage=self.job.config.zero_stage,
            precision=self.job.precision,
            device=device_name(self.job),
            processes=args.world_size,
            trainable_parameters=sum(weight.numel() for weight in weights if weight.requires_grad),
            lora_targets=self.targets,
            attention=self.attention,
            notes=tuple(self.notes),
        )
        seconds = sum(line["seconds"] + line.get("eval_seconds", 0) for line in before)
        self.device_seconds = seconds * args.world_size
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
        if logs and "eval_loss" in logs:
            self._add_evaluation(logs, state)
        if not logs or "loss" not in logs:  # the summary at the end is no step
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise PrefmillError(
                    f"the {name} is {logs[name]} at step {state.global_step} (learning rate "
                    f"{logs['learning_rate']:g}, precision {self.job.precision})",
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
        line = {"step": state.global_step, "steps": state.max_steps, **logs, **rounded}
        line |= self.describe(logs, pairs, seconds)
        self.device_seconds += seconds * args.world_size
        line |= resources(self.device_seconds / 3600, self.job.device, self.job.config.dollars_per_hour)
        if control.should_evaluate:  # which comes next; a step has one line
            self.held = line
        else:
            self.job.metrics.append(line)
        if text := self.warn(line):
            self.warnings.append(text)
            say(self.job.output, text)

    def _add_evaluation(self, logs: dict[str, float], state: TrainerState) -> None:
        if not math.isfinite(logs["eval_loss"]):
            raise PrefmillError(
                f"the loss of the pairs held out is {logs['eval_loss']} after step {state.global_step}",
                f"lower learning_rate below {self.job.config.learning_rate:g}, or set precision=float32",
            )
        if state.is_world_process_zero:
            found = {name: value for name, value in logs.items() if name.startswith("eval_")}
            seconds = found.pop("eval_runtime")
            self.device_seconds += seconds * self.world_size
            # the last one is TRL's count of tokens trained on
            for name in ("samples_per_second", "steps_per_second", "model_preparation_time", "num_tokens"):
                found.pop(f"eval_{name}", None)
            self.job.metrics.append({**self.held, **found, "eval_seconds": round(seconds, 4)})
            self.last_time = time.monotonic()  # it is no part of the next step

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer.accelerator.wait_for_everyone()  # other processes may still be writing their part
        if state.is_world_process_zero and self.backend:
            folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
            mark_complete(
                folder,
                state.global_step,
                state.max_steps,
                self.job.notes(self.backend.model_copy(update={"notes": (*self.backend.notes, *self.warnings)})),
            )


def device_name(job: ReportedJob) -> str:
    """Return what torch calls this process's device."""
    return torch.cuda.get_device_name() if job.device == "cuda" else "cpu"
