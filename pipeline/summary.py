"""What a run holds, as plain values: for `prefmill show`, for reports and for machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ..base.errors import PrefmillError
from .declaration import StageDeclaration
from .device_time import device_times
from .ledger import StageTime
from .loop import Loop, every_loop
from .records import Candidate
from .stages.catalogue import STAGES
from .store import Run


def stage_names(run: Run) -> list[str]:
    """Return the stages a run has begun, in the order of its loop, as far as that is known here."""
    known = [stage.name for stage in known_stages()]

    def place(folder: str) -> tuple[int, str]:
        declared = _declaration(folder)
        started = run.manifest(folder).get("started", "")
        return (known.index(declared.name), folder) if declared else (len(known), started)

    return sorted(run.stages(), key=place)


def record_type_of(folder: str) -> type:
    """Return the record type of a stage's rows. Raises PrefmillError for a stage that nothing here declares."""
    declared = _declaration(folder)
    if declared is None:
        raise PrefmillError(f"nothing here knows the stage {folder!r}", "import the recipe that declares it first")
    return declared.output


def known_stages() -> list[StageDeclaration]:
    """Return the stages of the catalogue, and those of all loops that have been imported, in their order."""
    known = list(STAGES)
    for loop in every_loop(Loop):
        place = 0
        for stage in loop.STAGES:
            if not any(stage.name == other.name for other in known):
                known.insert(place, stage)
            place = next(number for number, other in enumerate(known, 1) if other.name == stage.name)
    return known


def _declaration(folder: str) -> StageDeclaration | None:
    owners = [stage for stage in known_stages() if stage.owns(folder)]
    return max(owners, key=lambda stage: len(stage.name), default=None)


def summarize(run: Run) -> dict[str, Any]:
    """Return counts, rejects by reason, models, device seconds and cost per stage, and their totals.

    `ledger` has the device seconds by what they went to, of trainings as well (`device_time.py`).
    """
    stages, times = {}, device_times(run)
    for name in stage_names(run):
        manifest = run.manifest(name)
        stages[name] = {
            key: manifest[key]
            for key in ("complete", "inputs", "outputs", "rejects", "models", "seconds", "cost", "notices")
        } | {"imported": "imported" in manifest["config"], "usage": manifest.get("usage")}
        stages[name]["seconds"] = round(times[name].seconds, 3)
        if measures := manifest.get("measures"):
            stages[name]["measures"] = measures
    ordered = {name: times[name] for name in [*stages, *sorted(times.keys() - stages.keys())]}
    ledger = _ledger(run, ordered)
    costs = [entry["cost"] for entry in ledger.values() if entry["cost"] is not None]
    training = _training(run)
    return {
        "stages": stages,
        "ledger": ledger,
        "device_hours": round(sum(time.seconds for time in times.values()) / 3600, 6),
        "cost": round(sum(costs), 6) if costs else None,
        **({"training": training} if training else {}),
    }


def _ledger(run: Run, times: dict[str, StageTime]) -> dict[str, Any]:
    """Return the device time of stages and trainings as plain values; the cost by the price in the manifests."""
    manifests = {name: run.manifest(name) for name in run.stages()}
    prices = [found for manifest in manifests.values() if (found := manifest.get("price_per_hour")) is not None]
    entries = {}
    for name, time in times.items():
        price = manifests.get(name, {}).get("price_per_hour") or (prices[-1] if prices else None)
        cost = None if price is None else time.seconds / 3600 * price
        if time.usage is not None and time.usage.cost is not None:
            cost = (cost or 0.0) + time.usage.cost
        seconds = {part: round(getattr(time, part), 3) for part in ("loading", "work", "idle", "training", "seconds")}
        entries[name] = {
            **seconds,
            "loads": time.loads if time.devices else 0,
            "units": time.units,
            "rows": time.rows,
            "speed": {unit: round(value, 3) for unit, value in _speeds(name, time)},
            "cost": None if cost is None else round(cost, 6),
            "devices": list(time.devices),
        }
    return entries


def _speeds(name: str, time: StageTime) -> Iterator[tuple[str, float]]:
    """Yield how fast a stage's work was, by unit; none where nothing was measured."""
    busy = time.work + time.training
    if not busy or not (time.devices or time.training):
        return
    if time.training:
        yield "pairs/s", time.units / busy
        return
    declared = _declaration(name)
    drawn = declared is not None and declared.output is Candidate
    yield ("images/s" if drawn else "rows/s"), time.rows / busy
    if time.usage is not None and time.usage.tokens:
        yield "tokens/s", time.usage.tokens / busy


class _Backend(BaseModel):
    engine: str


class _Loss(BaseModel):
    first: float | None = None
    last: float | None = None


class _Adapter(BaseModel):
    """What is read of the trainer's manifest; `train/manifest.py` has all of it."""

    adapter_sha256: str
    base_model_key: str
    pairs: int
    steps: int
    backend: _Backend
    loss: _Loss
    device_seconds: float


def _training(run: Run) -> dict[str, Any]:
    """Return what the adapter's manifest says in a few values; empty when nothing was trained here."""
    manifest = run.read_json("training/manifest.json", _Adapter)
    if manifest is None:
        return {}
    return {
        "adapter": str(run.folder / "training" / "adapter"),
        "sha256": manifest.adapter_sha256,
        "base_model": manifest.base_model_key,
        "pairs": manifest.pairs,
        "steps": manifest.steps,
        "engine": manifest.backend.engine,
        "loss": manifest.loss.model_dump(),
        "device_seconds": manifest.device_seconds,
    }
