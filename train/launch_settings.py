"""What all trainings share: where they run, in how many processes, how often they save and tell.

The settings of a kind of training (an adapter by preferences, an image reward, a generator) derive from these.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ..base.settings import Settings

Positive = Annotated[int, Field(ge=1)]

MAY_CHANGE = frozenset(
    {"save_every", "log_every", "cache", "cache_gigabytes", "report_to", "rendezvous", "dollars_per_hour"}
)
"""Settings that a continued training may have changed: they touch no weight."""


class LaunchSettings(Settings):
    """How a training is run, whatever it trains."""

    max_gradient_norm: float = Field(default=1.0, gt=0)
    seed: int = Field(default=42, ge=0, lt=2**32)

    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """auto: bfloat16 where a CUDA device is used, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: Positive = 1
    """Per machine; one per GPU."""
    nodes: Positive = 1
    """Machines that train together. The same command is given on each, with a file system that they share, and with
    NODE_RANK=0, 1, ... in its environment (or under Slurm, which tells it)."""
    rendezvous: str | None = Field(default=None, pattern=r"^\S+:\d{1,5}$")
    """host:port where the processes of several nodes meet: node 0, as the others reach it, and a free port there."""
    zero_stage: Literal[0, 2] = 2
    """2: DeepSpeed shards gradients and optimizer states over the processes. 0: no DeepSpeed."""

    save_every: Positive = 100
    """Steps between checkpoints. A stopped training continues from the newest complete one."""
    log_every: Positive = 1
    """Steps per line of metrics.jsonl; a line holds their mean."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Write the curves for these too, below the output folder. wandb stays offline unless WANDB_API_KEY or WANDB_MODE
    says otherwise; trackio stays here unless TRACKIO_SPACE_ID names a place."""
    dollars_per_hour: float | None = Field(default=None, ge=0)
    """Price of one device, for the cost in metrics.jsonl; None: no cost is told."""

    @model_validator(mode="after")
    def _can_be_launched(self) -> Self:
        if self.save_every % self.log_every:
            # otherwise the first line after a resume would average over fewer steps than without it
            raise ValueError(f"save_every ({self.save_every}) must be a multiple of log_every ({self.log_every})")
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f"nodes={self.nodes} needs rendezvous: host:port of node 0, as the others reach it")
        return self

    @model_serializer(mode="wrap")
    def _own_settings_first(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The settings as one reads them: what is trained and how, then where it runs."""
        values = serialize(self)
        own = [name for name in values if name not in LaunchSettings.model_fields]
        return {name: values[name] for name in dict.fromkeys([*own, *values])}

    @property
    def world(self) -> int:
        """Processes of all machines."""
        return self.processes * self.nodes

    @property
    def libraries(self) -> dict[str, str]:
        """What the settings need that does not come with the package: packages by the setting that asks for them."""
        return {f"report_to={name}": name for name in self.report_to}


def changed_settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say which settings differ between two dumps of a config, those that may change left out."""
    return [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
        for name in sorted((before.keys() | now.keys()) - MAY_CHANGE)
        if before.get(name) != now.get(name)
    ]
