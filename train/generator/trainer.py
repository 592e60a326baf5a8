"""The loop of a generator's training: losses to steps, steps to lines, checkpoints and samples.

Learning rate, data and noise are functions of the step, so a checkpoint holds weights and the optimizer's state and
nothing else, and a training that continues from one computes what an undisturbed one does.
"""

from __future__ import annotations

import math
import time
from typing import Any, cast

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ...base.errors import PrefmillError
from ...base.files import make_folder, remove
from ...engine.settings import EngineSettings
from ..checkpoints import mark_complete
from ..manifest import Backend
from ..usage import resources
from .catalogue import make_method
from .job import GeneratorJob
from .method import Method, TuningTask
from .policy import Policy
from .rewards import Reward
from .samples import Samples
from .settings import TARGETS, GeneratorTrainingConfig
from .stepping import Stepper, make_stepper, start_accelerator

POLICY = "policy.safetensors"
_KEPT_CHECKPOINTS = 2  # the newest is not complete before it is marked; the one before it is the safe one


def train(job: GeneratorJob) -> None:
    """Train to the last step, which leaves a complete checkpoint."""
    if not (job.resume and job.resume.is_last):
        GeneratorTrainer(job).run()


class GeneratorTrainer:
    """Everything that one process of a training holds."""

    def __init__(self, job: GeneratorJob) -> None:
        self.job, self.config = job, job.config
        self.accelerator: Accelerator = start_accelerator(self.config, job.device, job.precision)
        # accelerate numbers CPUs, of which an engine knows one
        device = torch.device("cpu") if job.device == "cpu" else self.accelerator.device
        dtype = torch.bfloat16 if job.precision == "bfloat16" else torch.float32
        self.policy = Policy.load(self.config, job.model_folder, device, dtype, len(job.prompts))
        self.stepper: Stepper = make_stepper(self.policy, self.accelerator)
        self.task = TuningTask(
            self.policy,
            self.config,
            job.prompts,
            _reward(self.config, self.policy),
            job.pairs,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self._gather,
        )
        self.method: Method = make_method(self.task, job.run)
        self.samples = Samples(self.task, job.output) if self.is_first else None
        self.backend = self._backend()
        self.device_seconds = sum(line["seconds"] + line.get("eval_seconds", 0) for line in job.metrics.read())
        self.device_seconds *= self.task.processes

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.accelerator.is_main_process

    def run(self) -> None:
        """Train from the checkpoint, or the beginning, to the last step."""
        step = self._resume()
        if step == 0 and self.samples:
            self.samples.draw(0)
        window: list[tuple[float, float]] = []
        began, saving = time.monotonic(), False
        while step < self.config.steps:
            window.append(self._step(step))
            step += 1
            last = step == self.config.steps
            if step % self.config.log_every == 0 or last:
                self._log(step, window, time.monotonic() - began)
                window, began = [], time.monotonic()
            saving = saving or step % self.config.save_every == 0
            if last or (saving and self.method.is_boundary(step - 1)):
                self._save(step)
                saving, began = False, time.monotonic()

    def _step(self, step: int) -> tuple[float, float]:
        """One optimizer step: its loss, over all processes, and the gradient's norm."""
        total, count = torch.zeros((), device=self.policy.device), 0
        for loss in self.method.losses(step):
            self.stepper.backward(loss)
            total, count = total + loss.detach().float(), count + 1
        rate = learning_rate(self.config, step)
        norm = self.stepper.step(rate) if count else 0.0
        if self.config.ema_decay == 0:
            self.policy.average = self.policy.weights()
        elif (step + 1) % self.config.ema_every == 0:
            self.policy.update_average()
        loss = float(cast(torch.Tensor, self.accelerator.reduce(total, "mean")))
        for name, value in (("loss", loss), ("gradient's norm", norm)):
            if not math.isfinite(value):
                how = f"learning rate {rate:g}, precision {self.job.precision}"
                raise PrefmillError(
                    f"the {name} is {value} at step {step + 1} ({how})",
                    f"lower learning_rate below {self.config.learning_rate:g}, or set precision=float32",
                )
        return loss, norm

    def _log(self, step: int, window: list[tuple[float, float]], seconds: float) -> None:
        told = self.method.metrics()
        if not self.samples:
            return
        losses, norms = zip(*window, strict=True)
        line: dict[str, float] = {
            "step": step,
            "steps": self.config.steps,
            "loss": sum(losses) / len(losses),
            "grad_norm": sum(norms) / len(norms),
            "learning_rate": learning_rate(self.config, step - 1),
            **told,
            "seconds": round(seconds, 4),
            "seconds_per_step": round(seconds / len(window), 4),
        }
        if "images" in told:
            line["images_per_second"] = round(told["images"] / seconds, 4)
        if step % self.config.eval_every == 0 or step == self.config.steps:
            began = time.monotonic()
            line |= self.samples.draw(step)
            line["eval_seconds"] = round(time.monotonic() - began, 4)
        self.device_seconds += (seconds + line.get("eval_seconds", 0)) * self.task.processes
        line |= resources(self.device_seconds / 3600, self.job.device, self.config.dollars_per_hour)
        self.job.metrics.append(line)

    def _save(self, step: int) -> None:
        folder = self.job.checkpoints / f"checkpoint-{step}"
        if self.is_first:
            remove(folder)
            make_folder(folder)
        self.accelerator.wait_for_everyone()
        self.stepper.save(folder)
        if self.is_first:
            save_file(self.policy.state(), folder / POLICY)
            self.policy.save_adapter(folder)
        self.accelerator.wait_for_everyone()
        if self.is_first:
            mark_complete(folder, step, self.config.steps, self.job.notes(self.backend))
            others = sorted(self.job.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
            for old in others[:-_KEPT_CHECKPOINTS]:
                remove(old)

    def _resume(self) -> int:
        resume = self.job.resume
        if resume is None:
            return 0
        self.stepper.load(resume.path)
        self.policy.load_state(load_file(resume.path / POLICY))
        return resume.step

    def _gather(self, values: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return values
        return cast(Any, self.accelerator.gather(values.to(self.policy.device).contiguous()))

    def _backend(self) -> Backend:
        config, device = self.config, self.job.device
        return Backend(
            name=config.method,
            engine=self.stepper.name,
            zero_stage=config.zero_stage,
            precision=self.job.precision,
            device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
            processes=self.task.processes,
            trainable_parameters=sum(parameter.numel() for parameter in self.policy.parameters),
            lora_targets="|".join(TARGETS),
            notes=tuple(filter(None, (runner.fallback for runner in self.policy.engine.runners))),
        )


def learning_rate(config: GeneratorTrainingConfig, step: int) -> float:
    """The learning rate of step `step`, counted from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return config.learning_rate * falls[config.schedule]


def _reward(config: GeneratorTrainingConfig, policy: Policy) -> Reward:
    """The reward, never run by an engine where its gradient is wanted."""
    kind: Any = str(policy.engine.steps.guided.dtype).removeprefix("torch.")
    backend = "eager" if config.method == "refl" else config.backend
    settings = EngineSettings(device=str(policy.device), dtype=kind, backend=backend, missing=config.missing)
    scorer = config.reward.load(settings)
    for runner in scorer.runners:
        runner.network.module.requires_grad_(False)
    return Reward(scorer)
