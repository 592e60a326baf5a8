"""Engines measured: every backend against eager execution, the libraries' own modules operation by operation.

    prefmill bench engines                                     # all networks and backends that this machine has
    prefmill bench engines --spec sd3_micro,decoder --backends onnxruntime --batches 8 --rounds 5
    prefmill bench engines --device cuda                       # bfloat16, the clock of the wall

For every network, backend and batch: latency, throughput, seconds to build, size on disk, growth of memory, and parity
with the eager network in float32; with one thread and with all. Sides take turns in one process for each number of
threads. The claimed ratios are medians over rounds: of CPU seconds with one thread, of wall seconds on a GPU.
torch.compile is among the sides. bfloat16 rows need a CPU that multiplies it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..base.errors import PrefmillError
from ..engine.backends.catalogue import DIRECT, ENGINES
from ..engine.device import why_no_bfloat16
from .engines_side import side_name
from .engines_specs import CLAIMED, SPECS, USUAL
from .result_file import called, write_result
from .turns import at_threads, ratio, thread_counts

Row = dict[str, Any]
BACKENDS: tuple[str, ...] = (*DIRECT, *ENGINES)


def run(
    device: str = "cpu",
    specs: Sequence[str] = USUAL,
    backends: Sequence[str] = (),
    batches: Sequence[int] = (1, 8),
    *,
    rounds: int = 3,
    engines: Path | None = None,
    to: Path | None = None,
) -> dict[str, Any]:
    """Measure, print progress to stderr, write all rows to `to`, and return the claims.

    `backends`: by default all that are installed. `engines`: a folder to keep what is built. Raises PrefmillError for
    a GPU that is not there, and names that are not known.
    """
    _check("network", specs, SPECS)
    _check("backend", backends, BACKENDS)
    if device == "cuda" and not torch.cuda.is_available():
        raise PrefmillError("torch sees no GPU here.", "leave --device out")
    reason = "" if device == "cuda" else why_no_bfloat16()
    precisions = ["bfloat16"] if device == "cuda" else ["float32", *([] if reason else ["bfloat16"])]
    with tempfile.TemporaryDirectory() as temporary:
        setting = {
            "device": device, "specs": list(specs), "backends": list(backends or installed()), "rounds": rounds,
            "precisions": precisions, "batches": sorted(batches),
        }  # fmt: skip
        rows: list[Row] = []
        left_out: dict[str, str] = {}
        threads = thread_counts() if device == "cpu" else [torch.get_num_threads()]
        for number in threads:
            answer = at_threads(
                "engines_side", {**setting, "engines": str(engines or temporary), "threads": number}, number
            )
            rows += answer["rows"]
            left_out |= answer["left_out"]
    claims = {**claims_of(rows, precisions[0], "wall" if device == "cuda" else "cpu"), "left_out": left_out}
    claims["bfloat16"] = None if reason else "measured"
    claims["bfloat16_reason"] = reason
    if device == "cuda":
        claims["gpu"] = torch.cuda.get_device_name()
    if to is not None:
        write_result(to, called("prefmill bench engines"), setting, claims, rows=rows)
    return claims


def installed() -> list[str]:
    """Backends whose packages are here. Those that have no builder yet are left out with their reason later."""
    found = list(DIRECT)
    for backend, (_, _, package) in ENGINES.items():
        try:
            import_module(package)
        except ImportError:
            continue
        found.append(backend)
    return found


def claims_of(rows: Sequence[Row], precision: str, clock: str) -> dict[str, Any]:
    """The claims from all rows: how many times as long eager execution takes, by side, network and batch.

    `precision` is that of the baseline and of the headline.
    """
    eager = side_name("eager", precision)
    fewest = min((row["threads"] for row in rows), default=1)
    baseline = {(row["spec"], row["batch"], row["threads"]): row for row in rows if row["side"] == eager}
    sides: dict[str, dict[str, Any]] = {}
    for row in rows:
        against = baseline.get((row["spec"], row["batch"], row["threads"]))
        if row["side"] == eager or against is None:
            continue
        name = f"{row['spec']} batch {row['batch']}"
        entry = sides.setdefault(row["side"], {}).setdefault(name, {})
        if row["threads"] == fewest:
            entry["vs_eager"] = ratio(against["timings"], row["timings"], clock)
            entry["parity"] = row["parity"]
            entry |= {fact: row[fact] for fact in ("build_seconds", "bytes", "memory_growth")}
        if row["threads"] > fewest or clock == "wall":
            entry["vs_eager_wall_all_threads"] = ratio(against["timings"], row["timings"], "wall")
    network, best, value = _headline(rows, sides, precision, eager)
    errors = [row["parity"] for row in rows if row["precision"] == precision and row["side"] != eager]
    return {
        "sd3_vs_eager": value,
        "sd3_vs_eager_backend": best,
        "sd3_vs_eager_network": network,
        "parity_max_relative_error": max(errors, default=None),
        "sides": sides,
    }


def _headline(
    rows: Sequence[Row], sides: dict[str, dict[str, Any]], precision: str, eager: str
) -> tuple[str | None, str | None, float | None]:
    """Network and batch, quickest side, ratio: of SD3's claimed size at its largest batch, in the same precision."""
    measured = [row["spec"] for row in rows if row["spec"].startswith("sd3")]
    same = {row["side"] for row in rows if row["precision"] == precision and row["side"] != eager}
    if not measured:
        return None, None, None
    spec = CLAIMED if CLAIMED in measured else measured[0]
    name = f"{spec} batch {max(row['batch'] for row in rows if row['spec'] == spec)}"
    found = {side: sides[side][name]["vs_eager"] for side in sorted(same) if name in sides[side]}
    best = max(found, key=lambda side: found[side], default=None)
    return name, best, found[best] if best else None


def _check(kind: str, names: Sequence[str], known: Sequence[str] | dict[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise PrefmillError(f"there is no {kind} {name!r}.", f"choose from {', '.join(known)}")


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(prog="prefmill bench engines", description="Measure engines against eager.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--spec", type=_names, default=list(USUAL), help=f"with commas: {', '.join(SPECS)}")
    parser.add_argument("--backends", type=_names, default=[], help=f"with commas, of {', '.join(BACKENDS)}")
    parser.add_argument("--batches", type=_names, default=["1", "8"], help="with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", type=Path, help="keep the engines in this folder")
    parser.add_argument("--to", type=Path, help="write every row to this JSON file")
    given = parser.parse_args()
    if not all(batch.isdigit() and int(batch) for batch in given.batches):
        parser.error(f"--batches takes whole numbers such as 1,8, not {','.join(given.batches)}")
    claims = run(
        given.device, given.spec, given.backends, [int(batch) for batch in given.batches],
        rounds=given.rounds, engines=given.engines, to=given.to,
    )  # fmt: skip
    print(json.dumps(claims))


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    main()
