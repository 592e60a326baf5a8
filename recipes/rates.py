"""What was measured of a stage, in this run, in others, or by a benchmark: the figures that a forecast rests on.

A figure says where it comes from. It is measured only where the same configuration ran on the same kind of device;
all else is an estimate, with its source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..base.errors import PrefmillError
from ..base.files import reason_of
from ..pipeline.device_time import device_times
from ..pipeline.ledger import StageTime
from ..pipeline.store import Run
from ..train.accelerators import ACCELERATORS, Accelerator, accelerator_of

_UNIT_CLAIMS = {"images_per_s": "candidates", "answers_per_s": "responses"}


@dataclass(frozen=True)
class Figure:
    """A number, whether it was measured, and where it comes from."""

    value: float
    measured: bool
    source: str

    def times(self, factor: float) -> Figure:
        """Return the figure multiplied."""
        return Figure(self.value * factor, self.measured, self.source)


@dataclass(frozen=True)
class Gpu:
    """A GPU that somebody named: one of our table, or any other, which measurements alone can say something of."""

    name: str
    accelerator: Accelerator | None

    @classmethod
    def named(cls, name: str) -> Gpu:
        """Return the GPU of a name; `a100` is the A100 of 80 GB."""
        wanted = name.lower()
        return cls(name, next((one for one in ACCELERATORS if one.name in {wanted, f"{wanted}-80gb"}), None))

    def is_device(self, device: str) -> bool:
        """Whether torch's name of a device is this GPU's; work without a device is the same everywhere."""
        found = accelerator_of(device)
        return not device or (found == self.accelerator if self.accelerator else self.name.lower() in device.lower())


class _Benchmark(BaseModel):
    """What is read of a benchmark's result file (`bench/result_file.py`)."""

    hardware: dict[str, str]
    setting: dict[str, Any]
    claims: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One place of measurements: a run, or a benchmark's result. `label` is what people call it."""

    label: str
    run: Run | None = None
    times: dict[str, StageTime] | None = None
    benchmark: _Benchmark | None = None

    @classmethod
    def of_run(cls, run: Run, label: str) -> Measured:
        """What a run measured of itself."""
        return cls(label, run, device_times(run) if run.folder.is_dir() else {})

    @classmethod
    def at(cls, path: Path) -> Measured:
        """What a run's folder or a benchmark's file holds. Raises PrefmillError where it is neither."""
        if path.is_dir():
            return cls.of_run(Run.open(path), str(path))
        try:
            return cls(str(path), benchmark=_Benchmark.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else "it is no benchmark's result"
            raise PrefmillError(
                f"--from {path}: {reason}",
                "name a run's folder, or what `prefmill bench synthesis --to FILE` wrote",
            ) from error

    def rate(self, stage: str, models: Sequence[str], fan_out: int, gpu: Gpu | None) -> Figure | None:
        """Return the device seconds of one input of a stage, waiting included; None where nothing was measured."""
        if self.benchmark is not None:
            return self._benchmark_rate(stage, models, fan_out, gpu)
        time = self._time(stage, gpu)
        if time is None or not time.units:
            return None
        return Figure((time.work + time.idle + time.training) / time.units, True, self.label)

    def load(self, stage: str, gpu: Gpu | None) -> Figure | None:
        """Return the seconds that a stage's model took to be made ready."""
        time = self._time(stage, gpu)
        return Figure(time.load, True, self.label) if time and time.loads else None

    def ratio(self, stage: str) -> float | None:
        """Return how many inputs a complete stage had for each prompt."""
        if self.run is None:
            return None
        manifest, prompts = self.run.manifest(stage), self.run.manifest("prompts").get("inputs")
        return manifest["inputs"] / prompts if prompts and manifest.get("complete") else None

    def trained(self, training: str) -> float | None:
        """Return how many pairs a training had for each prompt."""
        time = (self.times or {}).get(training)
        prompts = self.run.manifest("prompts").get("inputs") if self.run else None
        return time.units / prompts if time and time.units and prompts else None

    def bytes_of_input(self, stage: str) -> Figure | None:
        """Return the bytes that a stage wrote for each of its inputs."""
        if self.run is None or not (inputs := self.run.manifest(stage).get("inputs")):
            return None
        written = sum(file.stat().st_size for file in (self.run.folder / stage).glob("*.parquet"))
        return Figure(written / inputs, True, self.label)

    def differs(self, stage: str, config: dict[str, Any]) -> list[str]:
        """Return the settings of a stage that were others where this was measured."""
        if self.run is None or not (manifest := self.run.manifest(stage)):
            return []
        before, now = json.loads(json.dumps(manifest["config"])), json.loads(json.dumps(config))
        return [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]

    def _time(self, stage: str, gpu: Gpu | None) -> StageTime | None:
        time = (self.times or {}).get(stage)
        if time is None or (gpu and not all(gpu.is_device(device) for device in time.devices)):
            return None
        return time

    def _benchmark_rate(self, stage: str, models: Sequence[str], fan_out: int, gpu: Gpu | None) -> Figure | None:
        assert self.benchmark is not None
        device = self.benchmark.hardware.get("gpu") or self.benchmark.hardware.get("cpu", "")
        for claim, kind in _UNIT_CLAIMS.items():
            speed = self.benchmark.claims.get(claim)
            fits = re.match(rf"{kind}(-|$)", stage) and self.benchmark.setting.get("model") in models
            if fits and isinstance(speed, int | float) and speed > 0 and (gpu is None or gpu.is_device(device)):
                return Figure(fan_out / speed, True, self.label)
        return None
