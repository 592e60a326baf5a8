"""What the rest of a run will take: device hours, wall time, money, memory and bytes, stage by stage.

Every figure says whether it was measured (in this run, another one, or a benchmark) or is an estimate, and of what.
What nobody measured and nothing is known of stays unknown: a few prompts measure it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..engine.settings import MICRO_CHECKPOINTS, MICRO_PREFIX
from ..pipeline.store import Run
from ..train.accelerators import accelerator_of
from .anchors import LOAD, anchor_of, estimated_rate
from .disk import DiskEstimate
from .plan import PlannedStage
from .preflight import RunPlan
from .rates import Figure, Gpu, Measured
from .recipe import BaseRecipe
from .trainings import RecipeTraining, trainings_of
from .wall import stage_wall

THIS_RUN = "this run"


@dataclass(frozen=True)
class StageForecast:
    """The rest of one stage. `missing` inputs are still to come; `wall` and `held` (of all devices) in seconds."""

    name: str
    missing: int | None
    loads: int
    load: Figure | None
    rate: Figure | None
    """Device seconds of an input."""
    memory: Figure | None
    """Bytes on a device."""
    written: Figure | None
    """Bytes in the run's folder."""
    wall: float | None
    held: float | None
    needs_device: bool
    unit: int = 1
    """Inputs that are computed together."""

    @property
    def measured(self) -> bool:
        """Whether its time rests on measurements alone."""
        return all(figure.measured for figure in (self.rate, self.load) if figure is not None)


@dataclass(frozen=True)
class Forecast:
    """The rest of a run on `count` devices."""

    gpu: str | None
    count: int
    price: float | None
    stages: tuple[StageForecast, ...]
    notes: tuple[str, ...]

    @property
    def device_hours(self) -> float | None:
        """Of all devices for all that is still to come; None where a stage that needs a device is unknown."""
        return self._total("held")

    @property
    def wall_hours(self) -> float | None:
        """From the beginning to the end, None where that is not known."""
        return self._total("wall")

    @property
    def cost(self) -> float | None:
        """What the device hours cost, where both are known."""
        hours = self.device_hours
        return None if hours is None or self.price is None else hours * self.price

    @property
    def written(self) -> float:
        """The bytes that stages are known to write."""
        return sum(stage.written.value for stage in self.stages if stage.written is not None)

    @property
    def unknown(self) -> list[str]:
        """The stages whose time is not known."""
        return [stage.name for stage in self.stages if stage.held is None and stage.needs_device]

    def to_json(self) -> dict[str, Any]:
        """Return the forecast as plain values."""
        stages = [asdict(stage) | {"measured": stage.measured} for stage in self.stages]
        names = ("device_hours", "wall_hours", "cost", "written", "unknown")
        return asdict(self) | {"stages": stages} | {name: getattr(self, name) for name in names}

    def _total(self, name: str) -> float | None:
        known = [getattr(stage, name) for stage in self.stages]
        return None if self.unknown else sum(value for value in known if value is not None) / 3600


def forecast_here(plan: RunPlan, recipe: BaseRecipe) -> Forecast:
    """Return what the rest of a planned run takes on the devices that this machine's run will use."""
    import torch

    there, executor = torch.cuda.device_count() if torch.cuda.is_available() else 0, recipe.executor
    gpu = torch.cuda.get_device_name(0) if there else None
    known = accelerator_of(gpu) if gpu else None
    count = 1 if executor.engine == "local" else max(1, there)
    if executor.engine in {"processes", "ray"} and isinstance(executor.workers, int):
        count = executor.workers
    return forecast(plan, recipe, gpu=known.name if known else gpu, count=count)


def price_of(text: str | None, default: float | None) -> float | None:
    """Return the price of a device hour that a user named. Raises PrefmillError for what is no price."""
    if text is None:
        return default
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise PrefmillError(f"--price {text!r} is no price of a device hour", "give a number from 0: --price 2.5")
    return price


def forecast(
    plan: RunPlan,
    recipe: BaseRecipe,
    *,
    gpu: str | None = None,
    count: int = 1,
    price: float | None = None,
    sources: Sequence[Path] = (),
) -> Forecast:
    """Return what the rest of a planned run takes on `count` devices; `sources` are runs and benchmark results.

    Raises PrefmillError for a count below one, and a source that is none.
    """
    if count < 1:
        raise PrefmillError(f"--count {count}: there is no such number of devices", "give --count a number from 1")
    places = [Measured.of_run(Run(plan.folder), THIS_RUN), *(Measured.at(path) for path in sources)]
    device = Gpu.named(gpu) if gpu else None
    notes: list[str] = []
    prompts = next((stage.inputs for stage in plan.stages if stage.name == "prompts"), None)
    rows: dict[str, int] = {}
    stages = []
    for stage in plan.stages:
        inputs = _inputs(stage, prompts, places, rows)
        rows[stage.name] = (inputs or 0) * stage.fan_out
        if stage.missing != 0:
            usable = list(_usable(stage, places, notes))
            stages.append(_of_stage(stage, inputs, usable, device, count, recipe, plan.disk))
    open_trainings = [one for one in trainings_of(recipe, plan.folder) if one.output.name in plan.trainings]
    stages += [_of_training(one, prompts, rows, places, device) for one in open_trainings]
    notes += [note for stage in stages if (note := _too_large(stage, device))]
    return Forecast(gpu, count, price, tuple(stages), tuple(dict.fromkeys(notes)))


def _inputs(stage: PlannedStage, prompts: int | None, places: Sequence[Measured], rows: dict[str, int]) -> int | None:
    """Return how many inputs a stage will have: counted, by a ratio that was measured, or if every row goes on."""
    if stage.inputs is not None:
        return stage.inputs
    if prompts is None:
        return stage.expected
    for place in places:
        if (ratio := place.ratio(stage.name)) is not None:
            return round(ratio * prompts)
    if stage.unit == "prompts":
        return prompts
    return next((rows[name] for name in reversed(stage.reads) if name in rows), None)


def _usable(stage: PlannedStage, places: Sequence[Measured], notes: list[str]) -> Iterator[Measured]:
    """Yield the places where the stage ran with the same settings; say of the others what was different."""
    for place in places:
        differing = place.differs(stage.name, stage.config or {}) if place.label != THIS_RUN else []
        if differing:
            notes.append(f"{place.label} ran {stage.name} with another {', '.join(differing)}: its times are not used")
        else:
            yield place


def _of_stage(
    stage: PlannedStage,
    inputs: int | None,
    places: Sequence[Measured],
    gpu: Gpu | None,
    count: int,
    recipe: BaseRecipe,
    disk: DiskEstimate | None,
) -> StageForecast:
    models = tuple(source for _, source in stage.models)
    missing = None if inputs is None else max(0, inputs - stage.done)
    rate = next((found for place in places if (found := place.rate(stage.name, models, stage.fan_out, gpu))), None)
    load = next((found for place in places if (found := place.load(stage.name, gpu))), None)
    anchor = anchor_of(stage.name, models, stage.config or {})
    if anchor and gpu and gpu.accelerator:
        per_input = stage.fan_out
        if anchor.stage == "response_scores":
            per_input = max(1, len(getattr(recipe, "responders", ())))
        rate = rate or estimated_rate(anchor, stage.config or {}, per_input, gpu.accelerator)
        load = load or LOAD
    written = next((found for place in places if (found := place.bytes_of_input(stage.name))), None)
    total = written.times(missing) if written and missing is not None else None
    if total is None and disk is not None and stage.name == "candidates":
        total = Figure(disk.images, False, disk.basis)
    memory = Figure(anchor.memory, False, anchor.source) if anchor else _weights(models)
    wall = held = None
    if rate is not None and missing is not None:
        unit = recipe.executor.unit_seconds if count > 1 else 0.0
        wall = stage_wall(missing * rate.value, load.value if load else 0.0, count if models else 1, unit)
        held = wall * count
    return StageForecast(
        stage.name,
        missing,
        count if models else 0,
        load,
        rate,
        memory,
        total,
        wall,
        held,
        needs_device=bool(models),
        unit=stage.batch_size,
    )


def _of_training(
    training: RecipeTraining, prompts: int | None, rows: dict[str, int], places: Sequence[Measured], gpu: Gpu | None
) -> StageForecast:
    """Return the forecast of a training; its processes are what its settings say, whatever devices there are."""
    name, models = training.output.name, tuple(source for _, source in training.checkpoints)
    ratio = next((found for place in places if (found := place.trained(name)) is not None), None)
    pairs = round(ratio * prompts) if ratio is not None and prompts is not None else rows.get("pairs")
    rate = next((found for place in places if (found := place.rate(name, models, 1, gpu))), None)
    load = next((found for place in places if (found := place.load(name, gpu))), None)
    anchor = anchor_of(name, models, {})
    if anchor and gpu and gpu.accelerator:
        rate, load = rate or estimated_rate(anchor, {}, 1, gpu.accelerator), load or LOAD
    processes = training.config.processes
    memory = Figure(anchor.memory, False, anchor.source) if anchor else None
    held = None if rate is None or pairs is None else pairs * rate.value + (load.value if load else 0.0)
    wall = None if held is None else held / processes
    return StageForecast(name, pairs, processes, load, rate, memory, None, wall, held, needs_device=True)


def _weights(models: Sequence[str]) -> Figure | None:
    """Return the bytes of the weight files, where all of them are on this disk."""
    total = 0
    for source in models:
        micro = source.startswith(MICRO_PREFIX)
        folder = MICRO_CHECKPOINTS / source.removeprefix(MICRO_PREFIX) if micro else Path(source).expanduser()
        found = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) if folder.is_dir() else 0
        if not found:
            return None
        total += found
    return Figure(total, False, "weight files alone") if models else None


def _too_large(stage: StageForecast, gpu: Gpu | None) -> str:
    if not (stage.memory and gpu and gpu.accelerator and stage.memory.value > gpu.accelerator.memory):
        return ""
    needed, there = stage.memory.value / 1e9, gpu.accelerator.memory / 1e9
    return f"{stage.name} takes about {needed:.0f} GB, and a {gpu.name} has {there:.0f}"
