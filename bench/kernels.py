"""The kernel benchmark: every operation against its reference, the compiler and its peers, beside a measured floor.

    prefmill bench kernels --device cuda                       # all GPU rows
    python -m prefmill.bench.kernels --device cpu              # sizes scaled to a CPU
    python -m prefmill.bench.kernels --device cuda --dry-run   # the same script, tiny, on a CPU

Writes kernels-<device>.csv and .png; the last line on stdout is one JSON object. Ratios are of medians, and above 1
where ours is faster; over several shapes the worst one counts. Shapes that lose stay in the table.
"""

import argparse
import csv
import gc
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..engine.device import hardware_description, why_no_bfloat16
from ..kernels.catalogue import OPS
from ..kernels.operation import Case, Op
from .kernel_providers import PEERS, TRL_CHUNKS, providers
from .kernel_timing import Trial, ceilings, disagreement, quantiles

FIELDS: tuple[str, ...] = (
    "kernel",
    "provider",
    "mode",
    "metric",
    "unit",
    "shape",
    "p50",
    "p20",
    "p80",
    "hardware",
    "versions",
    "date",
)
Row = dict[str, Any]
_TINY = {"N": 40, "D": 64, "V": 900, "B": 2, "S": 16, "H": 96, "W": 96, "G": 64, "pairs": 4}


def run(
    device: str = "cpu",
    peers: Sequence[str] = PEERS,
    output: Path = Path("bench/results"),
    quick: bool = False,
    dry_run: bool = False,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure, write the table and the picture, and return what the last line says.

    Raises ValueError for a device that is not there or a peer that is not known.
    """
    unknown = set(peers) - set(PEERS)
    if unknown:
        raise ValueError(f"unknown peers {sorted(unknown)}; choose from {', '.join(PEERS)}")
    if device == "cuda" and not dry_run and not torch.cuda.is_available():
        raise ValueError("no CUDA device is here; use --device cpu, or --dry-run to try the script")
    place = torch.device("cpu" if dry_run else device)
    threads = torch.get_num_threads()
    if place.type == "cpu":
        torch.set_num_threads(1)
    try:
        rows = list(_rows(place, device, tuple(peers), quick or dry_run, dry_run, only))
    finally:
        torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    table = output / f"kernels-{device}{'-dry-run' if dry_run else ''}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(FIELDS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _draw(rows, table.with_suffix(".png"))
    return {**summary(rows), "table": str(table), "rows": len(rows), "dry_run": dry_run}


def _rows(
    place: torch.device, kind: str, peers: tuple[str, ...], quick: bool, dry_run: bool, only: Sequence[str]
) -> Iterator[Row]:
    stamp = {
        "hardware": "dry run" if dry_run else _hardware(place),
        "versions": _versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    for op in OPS:
        if only and op.name not in only:
            continue
        cases = op.gpu_cases if kind == "cuda" else op.cases
        if dry_run:
            cases = tuple(_shrunk(case) for case in cases[:2])
        elif quick:
            cases = cases[:1]
        for case in cases:
            reason = why_no_bfloat16() if place.type == "cpu" and case.dtype == torch.bfloat16 and not dry_run else ""
            for row in [_left_out(op, case, reason)] if reason else _case(op, case, place, peers, quick):
                print(f"{row['kernel']:12} {row['shape']:48} {row['provider']:16} {row['mode']:9}", end="")
                print(f"{row['metric']:18} {row['p50']:>12} {row['unit']}", flush=True)
                yield {**row, **stamp}
            gc.collect()


def _left_out(op: Op, case: Case, reason: str) -> Row:
    """A case that would take hours and say nothing of the kernel: its arithmetic is emulated."""
    head = {"kernel": op.name, "shape": str(case), "provider": "all", "mode": "both"}
    return {**head, "metric": "left out", "unit": reason, "p50": ""}


def _shrunk(case: Case) -> Case:
    return replace(case, sizes={name: min(size, _TINY.get(name, size)) for name, size in case.sizes.items()})


def _case(op: Op, case: Case, device: torch.device, peers: tuple[str, ...], quick: bool) -> Iterator[Row]:
    head = {"kernel": op.name, "shape": str(case)}
    torch.compiler.reset()  # shapes add up to torch.compile's limit, beyond which it runs uncompiled, unasked
    flops, bandwidth = ceilings(device, case.dtype, quick)
    inputs = op.make(case, device)
    found, missing = providers(op, device, peers)
    for peer, reason in missing.items():
        yield {**head, "provider": peer, "mode": "both", "metric": "left out", "unit": reason, "p50": ""}
    trials, expected = {}, Trial(op, found["reference"], inputs, device).values()
    for name, provider in found.items():
        trial = Trial(op, provider, inputs, device)
        try:
            wrong = disagreement(trial.values(), expected, case)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            wrong = f"fails: {str(error).splitlines()[0][:120]}"
        if wrong:
            yield {**head, "provider": name, "mode": "both", "metric": "left out", "unit": wrong, "p50": ""}
        else:
            trials[name] = trial
    for number in range((2 if quick else 5 if device.type == "cpu" else 50) + 1):
        for trial in trials.values():
            trial.once()
        if number == 0:  # warm-up
            for trial in trials.values():
                trial.times.clear()
    modes = ("forward", "backward", "both") if op.differentiable else ("forward",)
    for mode in modes:
        work = op.flops(case, mode) / flops if op.bound == "compute" else op.traffic(case, mode) / bandwidth
        yield {**head, "provider": "floor", "mode": mode, "metric": "time", "unit": "ms", **_points([work * 1000])}
        for name, trial in trials.items():
            times = [value * 1000 for value in trial.times[mode]]
            yield {**head, "provider": name, "mode": mode, "metric": "time", "unit": "ms", **_points(times)}
            fraction = work * 1000 / quantiles(times)[0]
            line = {"metric": "fraction of floor", "unit": "1", "p50": f"{fraction:.4g}"}
            if mode != "backward":
                yield {**head, "provider": name, "mode": mode, **line}
    for name, trial in trials.items():
        if name == "compile":  # its buffers are not seen operation by operation
            continue
        used = f"{trial.memory() / 2**20:.4g}"
        yield {**head, "provider": name, "mode": modes[-1], "metric": "peak memory", "unit": "MiB", "p50": used}


def _points(samples: list[float]) -> dict[str, str]:
    return dict(zip(("p50", "p20", "p80"), (f"{value:.4g}" for value in quantiles(samples)), strict=True))


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The headline ratios of a table, and what they are at every shape."""
    times: dict[str, dict[str, float]] = {}
    fractions: dict[str, float] = {}
    for row in rows:
        if row["kernel"] != "logprob" or row["mode"] != "both" or not row["p50"]:
            continue
        if row["metric"] == "time":
            times.setdefault(row["shape"], {})[row["provider"]] = float(row["p50"])
        elif row["metric"] == "fraction of floor" and row["provider"] == "ours":
            fractions[row["shape"]] = float(row["p50"])

    def ratios(names: Sequence[str]) -> dict[str, float]:
        return {
            shape: round(min(by[name] for name in names if name in by) / by["ours"], 3)
            for shape, by in times.items()
            if "ours" in by and any(name in by for name in names)
        }

    trl, materialised = ratios(tuple(TRL_CHUNKS)), ratios(("materialised",))
    return {
        "logprob_fwd_bwd_vs_trl": min(trl.values(), default=None),
        "logprob_fwd_bwd_vs_materialised": min(materialised.values(), default=None),
        "logprob_fraction_of_floor": min(fractions.values(), default=None),
        "by_shape": {"vs_trl": trl, "vs_materialised": materialised, "fraction_of_floor": fractions},
    }


def _hardware(device: torch.device) -> str:
    described = hardware_description()
    return described["gpu"] if device.type == "cuda" else f"{described['cpu']} ({torch.get_num_threads()} thread)"


def _versions() -> str:
    found = []
    for package in ("torch", "triton", "trl", "liger-kernel", "cut-cross-entropy"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _draw(rows: Sequence[Row], path: Path) -> None:
    """Forward and backward of log-probabilities by shape and provider, over the floor."""
    from matplotlib.figure import Figure  # slow to import

    kept = [row for row in rows if row["kernel"] == "logprob" and row["mode"] == "both" and row["metric"] == "time"]
    shapes = list(dict.fromkeys(row["shape"] for row in kept))
    names = list(dict.fromkeys(row["provider"] for row in kept))
    if not shapes:
        return
    figure = Figure(figsize=(3 + 2.2 * len(shapes), 4.5), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = {row["shape"]: float(row["p50"]) for row in kept if row["provider"] == name}
        spots = [number + (place - len(names) / 2) * 0.8 / len(names) for number in range(len(shapes))]
        axes.bar(spots, [values.get(shape, float("nan")) for shape in shapes], 0.8 / len(names), label=name)
    axes.set_xticks(range(len(shapes)), [shape.replace(" ", "\n") for shape in shapes], fontsize=7)
    axes.set_ylabel("ms, forward and backward (median)")
    axes.set_yscale("log")
    axes.set_title(f"Token log-probabilities, {kept[0]['hardware']}", fontsize=9)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--peer", action="append", choices=PEERS, help="repeatable; all by default")
    parser.add_argument("--only", action="append", choices=[op.name for op in OPS], help="repeatable; all by default")
    parser.add_argument("--output", type=Path, default=Path("bench/results"))
    parser.add_argument("--quick", action="store_true", help="one case per operation, few repeats")
    parser.add_argument("--dry-run", action="store_true", help="the device's rows at tiny sizes on a CPU")
    given = parser.parse_args(arguments)
    result = run(
        given.device, given.peer or PEERS, given.output, given.quick, dry_run=given.dry_run, only=given.only or ()
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
