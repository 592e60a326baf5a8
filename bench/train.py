"""Training measured: backend=shared against backend=trl, the same pairs, settings and steps.

    prefmill bench train                        # hidden 1024, 2 layers, vocabulary 2,000: the shape of a 7B on a CPU
    prefmill bench train --vocabulary 32000     # where the head is two thirds of the work
    prefmill bench train --dry-run              # tiny, seconds: that it runs, and nothing about speed

Each side trains in a process of its own, and they take turns, round by round. A training is whole: two epochs from a
fresh adapter, with the shared side's caches built inside the measured time. Claims are medians over rounds of CPU
seconds; `peak_memory_vs_trl` compares what each side's memory grows by while it trains. Both losses are compared step
by step.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from .result_file import write_result
from .train_inputs import TINY, Shape, write_model, write_pairs

SIDES = ("trl", "shared")
EPOCHS = 2
_WATCH_SECONDS = 0.005

Timing = dict[str, Any]  # cpu, wall, growth (bytes), steps (wall seconds of the steps alone), losses
Side = Callable[[str], Timing]


def run(
    shape: Shape, *, batch: int = 2, accumulation: int = 2, rounds: int = 3, threads: int = 1, to: Path | None = None
) -> dict[str, Any]:
    """Measure, print progress to stderr, write raw numbers to `to`, and return the claims."""
    raw: dict[str, list[Timing]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        write_model(folder / "model", shape)
        write_pairs(folder / "run", shape)
        setting = {"batch_size": batch, "accumulation": accumulation, "epochs": EPOCHS, "threads": threads}
        sides = {side: stack.enter_context(_side(side, folder, setting)) for side in SIDES}
        for number in range(rounds + 1):
            for side in SIDES if number % 2 else SIDES[::-1]:
                timing = sides[side]("warm" if number == 0 else f"round-{number}")
                print(
                    f"round {number} {side}: {timing['cpu']:.2f} s CPU, {timing['wall']:.2f} s wall, "
                    f"+{timing['growth'] / 1e6:.0f} MB",
                    file=sys.stderr,
                )
                if number:
                    raw[side].append(timing)
    claims = claims_of(raw, shape.pairs * EPOCHS)
    if to is not None:
        write_result(to, "prefmill bench train", {**asdict(shape), **setting, "rounds": rounds}, claims, raw=raw)
    return claims


def claims_of(raw: dict[str, list[Timing]], pairs: int) -> dict[str, Any]:
    """Return the claims from the timings of both sides, round by round; `pairs` are those of one training."""

    def ratio(key: str, *, inverse: bool = False) -> float:
        rounds = zip(raw["trl"], raw["shared"], strict=True)
        return round(statistics.median(b[key] / a[key] if inverse else a[key] / b[key] for a, b in rounds), 3)

    curves = zip(raw["trl"][0]["losses"], raw["shared"][0]["losses"], strict=True)
    return {
        "pairs_per_s_vs_trl": ratio("cpu"),
        "pairs_per_s_vs_trl_wall": ratio("wall"),
        "pairs_per_s_vs_trl_steps_alone": ratio("steps"),
        "peak_memory_vs_trl": ratio("growth", inverse=True),
        "loss_max_difference": max(abs(one - other) for one, other in curves),
        "trl_pairs_per_cpu_s": round(pairs / statistics.median(row["cpu"] for row in raw["trl"]), 4),
        "shared_pairs_per_cpu_s": round(pairs / statistics.median(row["cpu"] for row in raw["shared"]), 4),
    }


@contextlib.contextmanager
def _side(name: str, folder: Path, setting: dict[str, Any]) -> Iterator[Side]:
    command = [sys.executable, "-W", "ignore", "-m", "prefmill.bench.train", "--side", name]
    command += ["--folder", str(folder), "--setting", json.dumps(setting)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(output: str) -> Timing:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(f"{output}\n")
                stdin.flush()
            line = stdout.readline()
            if not line:
                raise PrefmillError(f"the {name} side ended early; its words are above", "give the command again")
            return json.loads(line)

        try:
            yield ask
        finally:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()


def _serve(side: str, folder: Path, setting: dict[str, Any]) -> None:
    """Train once for every line of stdin, into the folder it names, and answer with a line of JSON."""
    import torch

    torch.set_num_threads(setting.pop("threads"))
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the trainers print every step
        for line in sys.stdin:
            name = line.strip()
            changes = {"max_steps": 1} if name == "warm" else {}
            timing = _train(side, folder, f"{side}-{name}", {**setting, **changes})
            answers.write(json.dumps(timing) + "\n")
            answers.flush()


def _train(side: str, folder: Path, output: str, setting: dict[str, Any]) -> Timing:
    from transformers import AutoProcessor

    from ..train import trl_backend
    from ..train.collate import PairCollator
    from ..train.data import RunImages, load_pairs
    from ..train.job import TrainingJob
    from ..train.preference import trainer as shared
    from ..train.settings import DPOTrainingConfig

    config = DPOTrainingConfig(
        backend=side,  # type: ignore[arg-type]
        model=str(folder / "model"), device="cpu", zero_stage=0, lora_rank=16, lora_alpha=32, learning_rate=1e-3,
        save_every=1_000_000, **setting,
    )  # fmt: skip
    collator = PairCollator(AutoProcessor.from_pretrained(folder / "model"))
    run, target = folder / "run", folder / output
    target.mkdir()
    job = TrainingJob(
        config, folder / "model", collator, load_pairs(run), RunImages(run), target, None, "cpu", "float32", 0.0
    )
    trainer = shared.build_trainer(job) if side == "shared" else trl_backend.build_trainer(job)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    with _growth() as grown:
        trainer.train()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    lines = job.metrics.read()
    return {
        "cpu": cpu,
        "wall": wall,
        "growth": grown(),
        "steps": sum(line["seconds"] for line in lines),
        "losses": [line["loss"] for line in lines],
    }


@contextlib.contextmanager
def _growth() -> Iterator[Callable[[], int]]:
    """Watch how far this process's memory rises above where it is now, in bytes."""
    statistics_file, ended = Path("/proc/self/statm"), threading.Event()

    def resident() -> int:
        return int(statistics_file.read_text().split()[1]) * resource.getpagesize()

    start = resident()
    peak = [start]

    def watch() -> None:
        while not ended.wait(_WATCH_SECONDS):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: peak[0] - start
    finally:
        ended.set()
        watcher.join()


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(prog="prefmill bench train", description="Measure training against TRL.")
    for name, value in (("hidden", 1024), ("layers", 2), ("vocabulary", 2000), ("pairs", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("batch", 2), ("accumulation", 2), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes: try that everything runs")
    parser.add_argument("--to", type=Path, help="write raw numbers to this JSON file")
    for name in ("side", "folder", "setting"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        _serve(given.side, Path(given.folder), json.loads(given.setting))
        return
    sizes = {"hidden": given.hidden, "layers": given.layers, "vocabulary": given.vocabulary, "pairs": given.pairs}
    shape = TINY if given.dry_run else replace(Shape(), **sizes)
    rounds = 1 if given.dry_run else given.rounds
    claims = run(
        shape, batch=given.batch, accumulation=given.accumulation, rounds=rounds, threads=given.threads, to=given.to
    )
    print(json.dumps({**claims, "dry_run": True} if given.dry_run else claims))


if __name__ == "__main__":
    main()
