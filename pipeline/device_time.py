"""What a run has taken, stage by stage, the ledger, and what was written before there was one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from .ledger import DeviceLedger, StageTime, totals
from .store import MANIFEST, Run

_SMALL = 0.01  # manifests are rounded
_TRAINED = "manifest.json"


class _Backend(BaseModel):
    device: str = ""


class _Trained(BaseModel):
    """What every training's manifest says; `train/manifest.py` has all of it."""

    device_seconds: float
    pairs: int = 0
    steps: int = 0
    backend: _Backend = _Backend()
    hardware: dict[str, str] = {}

    @property
    def devices(self) -> tuple[str, ...]:
        """The name of what it ran on."""
        name = self.hardware.get("gpu" if self.backend.device == "cuda" else "cpu", "")
        return (name,) if name else ()


def device_times(run: Run) -> dict[str, StageTime]:
    """Return the device time of every stage and training of a run, stages first.

    Raises PrefmillError for a manifest or a ledger that cannot be read.
    """
    booked = totals(DeviceLedger(run.folder))
    times = {name: _with_manifest(run, name, booked.pop(name, StageTime())) for name in run.stages()}
    for folder in trained_in(run.folder):
        if folder.name not in booked:
            times[folder.name] = training_time(run, folder.name)
    return times | booked


def training_time(run: Run, name: str) -> StageTime:
    """Return what a finished training says of itself: the seconds of its steps, loading apart, and the pairs learnt."""
    found = run.read_json(f"{name}/{_TRAINED}", _Trained)
    if found is None:
        return StageTime()
    return StageTime(training=found.device_seconds, units=found.pairs or found.steps, devices=found.devices)


def trained_in(folder: Path) -> list[Path]:
    """Return the folders inside a run's that hold a finished training."""
    found = (path.parent for path in folder.glob(f"*/{_TRAINED}"))
    return sorted(path for path in found if not (path / MANIFEST).exists() and (path / "training.json").exists())


def _with_manifest(run: Run, name: str, booked: StageTime) -> StageTime:
    """Return the ledger's time and what shards of earlier versions took, which only the manifest knows."""
    manifest = run.manifest(name)
    before = manifest.get("seconds", 0.0) - booked.seconds
    if not manifest.get("complete") or before < _SMALL:
        return booked
    units, rows = max(booked.units, manifest["inputs"]), max(booked.rows, manifest["outputs"])
    return replace(booked, work=booked.work + before, units=units, rows=rows)
