"""Training measured: backend=shared against backend=trl, the same pairs, settings and steps.

    prefmill bench train                        # hidden 1024, 2 layers, vocabulary 2,000: the shape of a 7B on a CPU
    prefmill bench train --ladder               # every saving by itself, measured beside what its FLOPs predict
    prefmill bench train --vocabulary 32000     # where the head is two thirds of the work
    prefmill bench train --device cuda          # the sizes of LLaVA-1.5-7B, rank 128, bfloat16
    prefmill bench train --dry-run              # tiny, seconds: that it runs, and nothing about speed

Each side trains in a process of its own, and they take turns, round by round. A training is whole: two epochs from a
fresh adapter, with the shared side's caches built inside the measured time. Claims are medians over rounds: of CPU
seconds on a CPU, of wall seconds on a GPU. `peak_memory_vs_trl` compares what each side's memory grows by while it
trains. Both losses are compared step by step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .result_file import called, write_result
from .train_inputs import SEVEN_BILLION, TINY, Shape, predicted_gains, write_model, write_pairs
from .train_rungs import RUNGS
from .train_side import Timing, side_process

EPOCHS = 2
SIDES = ("trl", "shared")


def run(
    shape: Shape, setting: dict[str, Any], *, rungs: tuple[str, ...] = SIDES, rounds: int = 3, to: Path | None = None
) -> dict[str, Any]:
    """Measure, print progress to stderr, write raw numbers to `to`, and return the claims.

    `setting` holds the training's settings and `threads`.
    """
    raw: dict[str, list[Timing]] = {rung: [] for rung in rungs}
    setting = {"epochs": EPOCHS, **setting}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        write_model(folder / "model", shape)
        write_pairs(folder / "run", shape)
        predicted = predicted_gains(folder, shape, setting["lora_rank"], setting["batch_size"], setting["epochs"])
        sides = {rung: stack.enter_context(side_process(rung, folder, setting)) for rung in rungs}
        for number in range(rounds + 1):
            for rung in rungs if number % 2 else rungs[::-1]:
                timing = sides[rung]("warm" if number == 0 else f"round-{number}")
                print(
                    f"round {number} {rung}: {timing['cpu']:.2f} s CPU, {timing['wall']:.2f} s wall, "
                    f"+{timing['growth'] / 1e6:.0f} MB",
                    file=sys.stderr,
                )
                if number:
                    raw[rung].append(timing)
    claims = claims_of(raw, shape.pairs * EPOCHS, predicted, "wall" if setting["device"] == "cuda" else "cpu")
    if to is not None:
        write_result(
            to,
            called("prefmill bench train"),
            {**asdict(shape), **setting, "rounds": rounds},
            claims,
            raw=raw,
        )
    return claims


def claims_of(
    raw: dict[str, list[Timing]], pairs: int, predicted: dict[str, float], clock: str = "cpu"
) -> dict[str, Any]:
    """Return the claims from the timings of all sides, round by round; `pairs` are those of one training.

    `predicted`: what each rung gains by its floating-point operations alone.
    """

    def ratio(rung: str, key: str, *, inverse: bool = False) -> float:
        rounds = zip(raw["trl"], raw[rung], strict=True)
        return round(statistics.median(b[key] / a[key] if inverse else a[key] / b[key] for a, b in rounds), 3)

    curves = zip(raw["trl"][0]["losses"], raw["shared"][0]["losses"], strict=True)
    return {
        "pairs_per_s_vs_trl": ratio("shared", clock),
        "pairs_per_s_vs_trl_wall": ratio("shared", "wall"),
        "pairs_per_s_vs_trl_steps_alone": ratio("shared", "steps"),
        "peak_memory_vs_trl": ratio("shared", "growth", inverse=True),
        "loss_max_difference": max(abs(one - other) for one, other in curves),
        **{
            f"{rung}_pairs_per_s": round(pairs / statistics.median(row[clock] for row in raw[rung]), 4)
            for rung in SIDES
        },
        "ladder": {
            rung: {
                "pairs_per_s_vs_trl": ratio(rung, clock),
                "predicted": predicted[rung],
                "peak_memory_vs_trl": ratio(rung, "growth", inverse=True),
            }
            for rung in raw
        },
    }


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(prog="prefmill bench train", description="Measure training against TRL.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    sizes = ("hidden", "layers", "vocabulary", "pairs")
    for name in sizes:
        parser.add_argument(f"--{name}", type=int, help=f"{getattr(Shape(), name)} on a CPU")
    for name, value in (("batch", 2), ("accumulation", 2), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rank", type=int, help="of the adapter; 16 on a CPU, 128 on a GPU")
    parser.add_argument("--ladder", action="store_true", help="measure every saving by itself")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes: try that everything runs")
    parser.add_argument("--to", type=Path, help="write raw numbers to this JSON file")
    given = parser.parse_args()
    cuda = given.device == "cuda"
    shape = TINY if given.dry_run else SEVEN_BILLION if cuda else Shape()
    shape = replace(shape, **{name: value for name in sizes if (value := getattr(given, name)) is not None})
    rank = given.rank or (128 if cuda else 16)
    setting = {
        "device": given.device, "lora_rank": rank, "lora_alpha": 2 * rank,
        "batch_size": given.batch, "accumulation": given.accumulation, "threads": given.threads,
    }  # fmt: skip
    rungs = RUNGS if given.ladder else SIDES
    claims = run(shape, setting, rungs=rungs, rounds=1 if given.dry_run else given.rounds, to=given.to)
    print(json.dumps({**claims, "dry_run": True} if given.dry_run else claims))


if __name__ == "__main__":
    main()
