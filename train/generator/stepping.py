"""Gradients to weights: AdamW on the adapter, in one process or many, alone or sharded by DeepSpeed.

Without DeepSpeed the processes average their gradients once per step, when all micro-batches are done: of an adapter
that is little. With it (ZeRO stage 2) gradients are reduced and optimizer states sharded; it is told that the caller
decides when a step is due, since a method's steps need not have one number of micro-batches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs

from ..zero2 import require_engine, zero2_config
from .policy import Policy
from .settings import GeneratorTrainingConfig

_OPTIMIZER = "optimizer.pt"
_ZERO = "zero"
_BUCKET = 50_000_000


class Stepper(Protocol):
    """Takes losses backward and steps the optimizer."""

    name: str
    """The class of what the policy's gradients go through."""

    def backward(self, loss: torch.Tensor) -> None:
        """Add a micro-batch's gradients."""

    def step(self, rate: float) -> float:
        """Step at a learning rate with what was added, and return the gradient's norm before it was clipped."""
        ...

    def save(self, folder: Path) -> None:
        """Write this process's part of the optimizer's state."""

    def load(self, folder: Path) -> None:
        """Read it again. The weights are the policy's to load, after this."""


def start_accelerator(config: GeneratorTrainingConfig, device: str, precision: str) -> Accelerator:
    """The processes' meeting, with DeepSpeed where it is wanted."""
    if not config.zero_stage:
        return Accelerator(cpu=device == "cpu", mixed_precision="no")
    told = zero2_config() | {
        "bf16": {"enabled": precision == "bfloat16"},
        "fp16": {"enabled": False},
        "gradient_clipping": config.max_gradient_norm,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "train_micro_batch_size_per_gpu": 1,
        "train_batch_size": config.world,
        "zero_allow_untested_optimizer": True,
    }
    told["zero_optimization"] |= {"reduce_bucket_size": _BUCKET}
    plugin = DeepSpeedPlugin(hf_ds_config=told)
    # accelerate takes `cpu` for a refusal of DeepSpeed, which finds by itself that there is no GPU
    meeting: list[Any] = [InitProcessGroupKwargs(backend="gloo")] if device == "cpu" else []
    return Accelerator(mixed_precision="no", deepspeed_plugin=plugin, kwargs_handlers=meeting)


def make_stepper(policy: Policy, accelerator: Accelerator) -> Stepper:
    """The stepper that the settings ask for. Raises PrefmillError where DeepSpeed was asked for and is not in use."""
    return ZeroStepper(policy, accelerator) if policy.config.zero_stage else PlainStepper(policy, accelerator)


class PlainStepper:
    """No DeepSpeed."""

    def __init__(self, policy: Policy, accelerator: Accelerator) -> None:
        self.policy, self.accelerator = policy, accelerator
        self.optimizer = _adamw(policy)
        self.name = f"{type(policy.adapted).__module__}.{type(policy.adapted).__qualname__}"

    def backward(self, loss: torch.Tensor) -> None:
        """Add a micro-batch's gradients."""
        loss.backward()

    def step(self, rate: float) -> float:
        """Average, clip, step."""
        parameters = self.policy.parameters
        if self.accelerator.num_processes > 1:
            flat = torch.cat([_gradient(one).flatten() for one in parameters])
            mean: Any = self.accelerator.reduce(flat, "mean")
            for parameter, part in zip(parameters, mean.split([one.numel() for one in parameters]), strict=True):
                parameter.grad = part.view_as(parameter)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.policy.config.max_gradient_norm)
        _set_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def save(self, folder: Path) -> None:
        """The first process writes; all have the same."""
        if self.accelerator.is_main_process:
            torch.save(self.optimizer.state_dict(), folder / _OPTIMIZER)

    def load(self, folder: Path) -> None:
        """Read it again."""
        state = torch.load(folder / _OPTIMIZER, map_location=self.policy.device, weights_only=True)
        self.optimizer.load_state_dict(state)


class ZeroStepper:
    """DeepSpeed's engine around the adapted transformer."""

    def __init__(self, policy: Policy, accelerator: Accelerator) -> None:
        self.engine: Any
        self.engine, self.optimizer = accelerator.prepare(policy.adapted, _adamw(policy))
        self.name = require_engine(self.engine, policy.config.zero_stage)
        self.engine.eval()
        policy.network = self.engine

    def backward(self, loss: torch.Tensor) -> None:
        """Add a micro-batch's gradients."""
        self.engine.backward(loss)

    def step(self, rate: float) -> float:
        """Reduce, clip, step."""
        _set_rate(self.engine.optimizer, rate)
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        return float(norm)

    def save(self, folder: Path) -> None:
        """Every process writes its shard."""
        self.engine.save_checkpoint(str(folder), tag=_ZERO, exclude_frozen_parameters=True, save_latest=False)

    def load(self, folder: Path) -> None:
        """Read it again."""
        self.engine.load_checkpoint(str(folder), tag=_ZERO, load_module_strict=False)


def _adamw(policy: Policy) -> torch.optim.AdamW:
    config = policy.config
    return torch.optim.AdamW(policy.parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
