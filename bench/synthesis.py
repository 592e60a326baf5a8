"""Synthesis measured: prompts to scored images, as the papers' authors do it, eagerly, and under every backend.

    prefmill bench synthesis                                   # 16 prompts, all backends that this machine has
    prefmill bench synthesis --prompts 48 --backend onnxruntime --backend openvino --rounds 5

The sides (`synthesis_paths.py`) draw the same images from the same seeds, and take turns in one process for each number
of threads. Loading and building come before the clock starts; seconds of building are reported. The claimed ratios are
medians over rounds of CPU seconds with one thread; wall seconds with all threads stand beside them. Of every side's
images and scores it says how far they are from eager execution's: whether the same image of each prompt wins, the
largest difference of a pixel, PSNR, the drift of the reward.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base.errors import PrefmillError
from .engines import BACKENDS, installed
from .result_file import called, write_result
from .synthesis_paths import AuthorsPath, ProductPath, ScoredImages, micro_prompts
from .turns import Timing, at_threads, ratio, take_turns, thread_counts, timed


def run(
    prompts: int = 16,
    backends: Sequence[str] = (),
    *,
    rounds: int = 3,
    engines: Path | None = None,
    to: Path | None = None,
) -> dict[str, Any]:
    """Measure, print progress to stderr, write raw numbers to `to`, and return the claims.

    `backends`: by default all that are installed. `engines`: a folder to keep what is built.
    """
    for backend in backends:
        if backend not in BACKENDS:
            raise PrefmillError(f"there is no backend {backend!r}.", f"choose from {', '.join(BACKENDS)}")
    chosen = list(dict.fromkeys(("eager", *(backends or installed()))))
    with tempfile.TemporaryDirectory() as temporary:
        setting = {"prompts": prompts, "backends": chosen, "rounds": rounds}
        kept = {**setting, "engines": str(engines or temporary)}
        measured = {
            threads: at_threads("synthesis", {**kept, "threads": threads}, threads) for threads in thread_counts()
        }
    claims = claims_of(measured)
    if to is not None:
        write_result(to, called("prefmill bench synthesis"), setting, claims, measured=measured)
    return claims


def measure(setting: dict[str, Any]) -> dict[str, Any]:
    """One process's part: `timings` of every side round by round, `built` and `agreement` by side, `left_out`."""
    torch.set_num_threads(setting["threads"])
    with tempfile.TemporaryDirectory() as temporary:
        recipe = micro_prompts(Path(temporary), setting["prompts"])
        paths: dict[str, Any] = {"authors": AuthorsPath(recipe)}
        left_out, built = {}, {}
        for backend in setting["backends"]:
            try:
                paths[backend] = ProductPath(recipe, backend, Path(setting["engines"]))
            except PrefmillError as error:
                left_out[backend] = error.message
                continue
            artifacts = paths[backend].built
            built[backend] = {
                "build_seconds": round(sum(artifact.build_seconds for artifact in artifacts), 1),
                "bytes": sum(artifact.size for artifact in artifacts),
                "parity": max((row.maximum_relative_error for one in artifacts for row in one.parity), default=None),
            }
        raw = take_turns({name: lambda path=path: timed(path) for name, path in paths.items()}, setting["rounds"])
    outcomes = {name: rows[0].pop("result") for name, rows in raw.items()}
    timings = {name: [{clock: row[clock] for clock in ("wall", "cpu")} for row in rows] for name, rows in raw.items()}
    return {
        "timings": timings,
        "images": outcomes["eager"].scores.size,
        "agreement": {name: agreement(outcome, outcomes["eager"]) for name, outcome in outcomes.items()},
        "built": built,
        "left_out": left_out,
    }


def agreement(found: ScoredImages, wanted: ScoredImages) -> dict[str, float]:
    """How far images and scores are from others of the same prompts, scales and seeds.

    `psnr_min` in decibels, of the image that differs most; equal images have 99.
    """
    difference = found.images.astype(np.float64) - wanted.images
    error = (difference**2).mean(axis=(2, 3, 4))
    return {
        "same_picks": float((found.scores.argmax(1) == wanted.scores.argmax(1)).mean()),
        "max_pixel": float(np.abs(difference).max()),
        "psnr_min": round(float(10 * np.log10(255**2 / max(error.max(), 255**2 * 10**-9.9))), 2),
        "reward_drift": float(np.abs(found.scores - wanted.scores).max()),
    }


def claims_of(measured: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The claims from what each number of threads gave."""
    one, most = measured[min(measured)], measured[max(measured)]
    timings: dict[str, list[Timing]] = one["timings"]
    sides = {
        name: {
            "vs_eager": ratio(timings["eager"], rows),
            "vs_eager_wall_all_threads": ratio(most["timings"]["eager"], most["timings"][name], "wall"),
            "vs_authors": ratio(timings["authors"], rows),
            "vs_authors_wall_all_threads": ratio(most["timings"]["authors"], most["timings"][name], "wall"),
            **one["agreement"][name],
            **one["built"].get(name, {}),
        }
        for name, rows in timings.items()
        if name in most["timings"]
    }
    compiled = {name: side for name, side in sides.items() if name not in ("authors", "eager")}
    best = max(compiled, key=lambda name: compiled[name]["vs_eager"], default="eager")
    seconds = statistics.median(row["wall"] for row in most["timings"][best])
    return {
        "sd3_vs_eager": sides[best]["vs_eager"],
        "path_vs_authors": sides[best]["vs_authors"],
        "images_per_s": round(most["images"] / seconds, 3),
        "parity_max_relative_error": sides[best].get("parity"),
        "same_picks": sides[best]["same_picks"],
        "backend": best,
        "sides": sides,
        "left_out": {**one["left_out"], **most["left_out"]},
    }


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(prog="prefmill bench synthesis", description="Measure prompts to scored images.")
    parser.add_argument("--prompts", type=int, default=16, help="each has four images")
    parser.add_argument("--backend", action="append", default=[], help=f"repeatable: {', '.join(BACKENDS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", type=Path, help="keep the engines in this folder")
    parser.add_argument("--to", type=Path, help="write raw numbers to this JSON file")
    given = parser.parse_args()
    print(json.dumps(run(given.prompts, given.backend, rounds=given.rounds, engines=given.engines, to=given.to)))


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):  # a process of `at_threads`
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
