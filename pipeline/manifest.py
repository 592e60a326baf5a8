"""The manifest of a stage: what was asked for, what was actually used, what came out and what it cost.

It chains: a stage's fingerprint contains the one before it, so the manifest of the pairs stands for every
setting that led to them, and the `models` of all manifests together name every weight file that took part.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from ..base.errors import PrefmillError
from ..base.versions import package_versions
from .ledger import StageTime, time_of_footers
from .usage import total

if TYPE_CHECKING:
    from .stage import Stage, Task
    from .store import Dataset, Run


@dataclass(frozen=True)
class StageReport:
    """What a built stage really uses, as the process that built it found: plain values, for it may be another one."""

    models: tuple[str, ...] = ()
    networks: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    device: str = ""

    @classmethod
    def of(cls, stage: Stage[Any, Any], device: str = "") -> Self:
        """Return the report of a stage built in this process; `device`: where its model runs, if it has one."""
        hardware: dict[str, str] = {}
        if stage.model_keys:
            from ..engine.device import hardware_description  # torch: only a stage with a model needs it

            hardware = hardware_description()
        networks = {runner.network.name: runner.execution.backend for runner in stage.runners}
        return cls(tuple(stage.model_keys), networks, hardware, (*stage.notices, *stage.outcome), device)

    @property
    def device_name(self) -> str:
        """The device that its model runs on, by its name; empty where it has none."""
        return self.hardware.get("gpu" if self.device == "cuda" else "cpu", "")


@dataclass(frozen=True)
class StageManifest:
    """See the module. `seconds` is device time summed over every process that worked on the stage (`ledger.py`).

    `precision`, `backend` and `device` are what the settings came to where the stage ran; empty without a model.
    `networks` says what really ran each network: one that has no engine runs eagerly under every backend.
    `usage` is what requests to models took (`usage.py`), `measures` what the stage says of all of its rows.
    """

    stage: str
    fingerprint: str
    config: dict[str, Any]
    started: str
    models: list[str] = field(default_factory=list)
    precision: str = ""
    backend: str = ""
    device: str = ""
    networks: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    finished: str = ""
    inputs: int = 0
    outputs: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    price_per_hour: float | None = None
    cost: float | None = None
    usage: dict[str, Any] | None = None
    measures: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, task: Task, fingerprint: str, previous: dict[str, Any]) -> Self:
        """Return the manifest of a stage about to run; a continued one keeps its models and start."""
        kept = {
            key: previous[key]
            for key in ("models", "networks", "started", "notices", "hardware", "finished")
            if key in previous
        }
        fresh = {"started": _now(), "versions": package_versions()}
        return cls(stage=task.name, fingerprint=fingerprint, config=task.config, **task.execution, **{**fresh, **kept})

    def with_report(self, report: StageReport, *, mixed: bool = False) -> Self:
        """Record what a built stage really uses; `mixed`: whether GPUs of several types may work on one stage.

        Raises PrefmillError when the weights changed under a run, what runs its networks, or the type of GPU.
        """
        models = list(report.models)
        if self.models and models != self.models:
            raise PrefmillError(
                f"stage {self.stage} was begun with {', '.join(self.models)}, but now there is {', '.join(models)}",
                f"restore those weights, or make the stage again with `prefmill run ... --remake {self.stage}`",
            )
        networks = report.networks
        changed = [name for name, backend in networks.items() if self.networks.get(name, backend) != backend]
        if changed:
            told = [f"{name} by {self.networks[name]}, now by {networks[name]}" for name in changed]
            raise PrefmillError(
                f"stage {self.stage} was begun with {', '.join(told)}",
                f"bring back what ran it, or make the stage again with `prefmill run ... --remake {self.stage}`",
            )
        gpus, gpu = _names(self.hardware, "gpu"), report.hardware.get("gpu", "")
        if gpus and gpu and gpu not in gpus and not mixed:
            raise PrefmillError(
                f"stage {self.stage} was begun on {', '.join(gpus)}, and this is {gpu}, whose last bits differ",
                "continue on the same type, or say with --set executor.mixed_hardware=true that they may mix",
            )
        hardware, device = report.hardware or self.hardware, report.device or self.device
        for kind in ("cpu", "gpu"):
            if names := list(dict.fromkeys([*_names(self.hardware, kind), *_names(report.hardware, kind)])):
                hardware = hardware | {kind: ", ".join(names)}
        several = _names(hardware, "gpu" if device == "cuda" else "cpu")
        told = [f"computed on {' and '.join(several)}, whose last bits differ"] if len(several) > 1 else []
        notices = list(dict.fromkeys([*self.notices, *report.notices, *told]))
        return replace(self, models=models, networks=networks, hardware=hardware, notices=notices, device=device)

    def finish(
        self,
        dataset: Dataset[Any],
        inputs: int,
        taken: StageTime,
        price_per_hour: float | None,
        measures: dict[str, Any] | None = None,
    ) -> Self:
        """Return the manifest of a stage that has run to its end, counted from its shards and from the ledger."""
        before = time_of_footers(dataset)
        seconds = round(taken.seconds + before.seconds, 3)
        usages = [usage for usage in (taken.usage, before.usage) if usage is not None]
        usage = total(usages) if usages else None
        cost = None if price_per_hour is None else round(seconds / 3600 * price_per_hour, 6)
        if usage is not None and usage.cost is not None:  # paid to a server, whatever this machine costs
            cost = round((cost or 0.0) + usage.cost, 6)
        counts = {"inputs": inputs, "outputs": len(dataset), "rejects": dataset.reject_counts()}
        return replace(
            self,
            complete=True,
            finished=self.finished or _now(),
            seconds=seconds,
            price_per_hour=price_per_hour,
            cost=cost,
            usage=None if usage is None else asdict(usage),
            measures=measures or {},
            **counts,
        )

    def summary(self, unit: str) -> str:
        """Return in a line what came out of a finished stage."""
        rejected = sum(self.rejects.values())
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.rejects.items())
        return f"{self.inputs} {unit} -> {self.outputs} rows" + (
            f", {rejected} rejected ({reasons})" if rejected else ""
        )

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain values."""
        return asdict(self)


def check_fingerprint(run: Run, task: Task, fingerprint: str) -> None:
    """Refuse to mix two configurations in one stage. Names what differs."""
    manifest = run.manifest(task.name)
    if not manifest or manifest["fingerprint"] == fingerprint:
        return
    before, now = manifest["config"], task.config
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    told = [f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in changed]
    raise PrefmillError(
        f"{run.folder} holds {task.name} made with another configuration "
        f"({'; '.join(told) or 'a stage before it has changed'})",
        f"{_earlier(task, before, changed)}choose a new folder with --to, or make it again from there with "
        f"--remake {task.name}",
    )


def _earlier(task: Task, before: dict[str, Any], changed: list[str]) -> str:
    """Return the settings that bring back what a stage was begun with, as advice."""
    places = {"precision": "engine.dtype", **{key: f"{task.setting}.{key}" for key in ("batch_size",) if task.setting}}
    settings = [f"--set {places[key]}={before[key]}" for key in changed if key in places and before.get(key)]
    return f"continue with {' '.join(settings)}, " if settings else ""


def _names(hardware: dict[str, str], kind: str) -> list[str]:
    return [name for name in hardware.get(kind, "").split(", ") if name]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
