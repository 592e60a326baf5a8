"""One process of the engine benchmark: every backend of every network, at one number of threads.

    python -m prefmill.bench.engines_side SETTING

SETTING is JSON: device, threads, specs, backends, precisions, batches, rounds, and the folder of engines. What was
measured is one JSON object on the last line of stdout. Builds come before the clock starts, and their seconds are
reported. A backend that is not installed, or that fails on a network, is left out with its reason.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..base.errors import PrefmillError
from ..compile.build import build_engine
from ..compile.verify import compare
from ..engine.artifact import ranges_of
from ..engine.backends.catalogue import DIRECT, load_engine
from ..engine.device import resolve_device, resolve_weights_dtype
from ..engine.network import Network
from ..engine.runner import Runner
from ..engine.settings import EngineSettings
from .engines_specs import SPECS
from .memory_growth import device_growth, give_back_memory, process_growth
from .turns import take_turns, timed

_SHORTEST = 0.1  # seconds of one sample: shorter calls are repeated
Make = Callable[[EngineSettings], Network]


def measure(setting: dict[str, Any], specs: dict[str, Make] = SPECS) -> dict[str, Any]:
    """`rows`, one for every network, side and batch, and what was `left_out`, by network and side."""
    torch.set_num_threads(setting["threads"])
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for name in setting["specs"]:
        found, missing = _measure_spec(name, specs[name], setting)
        rows += found
        left_out |= missing
        give_back_memory()
    return {"rows": rows, "left_out": left_out}


def side_name(backend: str, precision: str) -> str:
    """What a side is called in results."""
    return backend if precision == "float32" else f"{backend}-{precision}"


def _measure_spec(name: str, make: Make, setting: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    device = resolve_device(EngineSettings(device=setting["device"]))
    networks: dict[torch.dtype, Network] = {}
    rows, left_out = [], {}
    runners: dict[str, Runner] = {}
    facts: dict[str, dict[str, Any]] = {}
    for precision in setting["precisions"]:
        for backend in dict.fromkeys(("eager", *setting["backends"])):
            side = side_name(backend, precision)
            try:
                network = _network(networks, make, device, backend, precision)
                batches = [size for size in setting["batches"] if size <= _largest(network)]
                runners[side], facts[side] = _prepare(network, backend, precision, device, batches, setting["engines"])
            except PrefmillError as error:
                left_out[f"{name} {side}"] = error.message
            except (
                Exception
            ) as error:  # a compiler's reasons are many, and the other sides' numbers must not go with it
                left_out[f"{name} {side}"] = " ".join(str(error).split())[:300] or type(error).__name__
            print(f"{name} {side}: {left_out.get(f'{name} {side}', 'ready')}", file=sys.stderr)
    for batch in setting["batches"]:
        taking_part = {side: runner for side, runner in runners.items() if batch <= _largest(runner.network)}
        if not taking_part:  # larger than the network takes, or no side works
            continue
        print(f"{name}, batch {batch}:", file=sys.stderr)
        timings, repeats = _time(taking_part, batch, device, setting["rounds"])
        for side, samples in timings.items():
            runner, seconds = taking_part[side], statistics.median(row["wall"] for row in samples) / repeats
            worst = max(
                row.maximum_relative_error for row in compare(runner.network, runner, _point(runner.network, batch))
            )
            rows.append(
                {"spec": name, "side": side, "backend": runner.execution.backend, "batch": batch,
                 "precision": runner.execution.precision, "threads": setting["threads"], "parity": worst,
                 **facts[side], "latency_seconds": seconds, "rows_per_second": batch / seconds,
                 "timings": [{clock: row[clock] / repeats for clock in ("wall", "cpu")} for row in samples]}
            )  # fmt: skip
    return rows, left_out


def _network(
    networks: dict[torch.dtype, Network], make: Make, device: torch.device, backend: str, precision: str
) -> Network:
    """The network with its weights in the type that a backend takes them in; one for all that take the same."""
    settings = EngineSettings.model_validate({"device": str(device), "dtype": precision, "backend": backend})
    dtype = resolve_weights_dtype(settings, device)
    if dtype not in networks:
        plain = {"device": str(device), "dtype": str(dtype).removeprefix("torch.")}
        networks[dtype] = make(EngineSettings.model_validate(plain))
    return networks[dtype]


def _prepare(
    network: Network, backend: str, precision: str, device: torch.device, batches: Sequence[int], engines: str
) -> tuple[Runner, dict[str, Any]]:
    """A runner that has run every batch once, and what it took to get there."""
    ranges = ranges_of(network)
    if network.batch is not None:
        ranges[network.batch.name] = (1, max(batches), max(batches))
    began = time.perf_counter()
    size, build_seconds, built = 0, 0.0, None
    if backend not in DIRECT:
        built = build_engine(network, backend, precision, device, Path(engines), ranges=ranges)
        size, build_seconds = built[1].size, built[1].build_seconds
    give_back_memory()
    with device_growth() if device.type == "cuda" else process_growth() as grown:
        runner = load_engine(network, *built, device) if built else DIRECT[backend](network)
        with torch.inference_mode():
            for batch in batches:
                runner.run(_inputs(runner, batch))
        growth = grown()
    if not built and backend != "eager":  # it compiles at the first call
        build_seconds = time.perf_counter() - began
    return runner, {"build_seconds": round(build_seconds, 2), "bytes": size, "memory_growth": growth}


def _time(
    runners: dict[str, Runner], batch: int, device: torch.device, rounds: int
) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Samples of every side in turn, and how many calls there are in one."""
    inputs = {side: _inputs(runner, batch) for side, runner in runners.items()}

    def calls(side: str, number: int) -> None:
        with torch.inference_mode():
            for _ in range(number):
                runners[side].run(inputs[side])

    once = min(timed(lambda side=side: calls(side, 1), device)["wall"] for side in runners)
    repeats = max(1, math.ceil(_SHORTEST / once))
    sides = {side: lambda side=side: timed(lambda: calls(side, repeats), device) for side in runners}
    return take_turns(sides, rounds), repeats


def _inputs(runner: Runner, batch: int) -> dict[str, torch.Tensor]:
    sizes = {name: one[1] for name, one in _point(runner.network, batch).items()}
    return {name: value.to(runner.device) for name, value in runner.network.sample(sizes, runner.dtype).items()}


def _point(network: Network, batch: int) -> dict[str, tuple[int, int, int]]:
    """Ranges that hold one size each: every dimension at its optimum, and this batch."""
    point = {name: (one.optimum, one.optimum, one.optimum) for name, one in network.dimensions.items()}
    return point | ({network.batch.name: (batch, batch, batch)} if network.batch else {})


def _largest(network: Network) -> int:
    return network.batch.maximum if network.batch else 1


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
