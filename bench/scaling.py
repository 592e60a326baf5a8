"""How a run scales from 1 to 256 GPUs: a simulation by arithmetic, no measurement. `docs/scaling.md` has its numbers.

Assumptions, each an option or a constant here:
- seconds of a prompt in every stage on an A100, from compiled engines (ENGINE_SECONDS; estimates, no measurement);
- stages run one after the other, all devices wait for the last unit of a stage, units take 60 s (`recipes/wall.py`);
- eight GPUs a node; every node reads the weights of a stage once from the shared store, all nodes at the same time,
  and a model takes LOAD_SECONDS from the local disk;
- every stage reads its inputs from the shared store and writes its rows to it: images of 1.5 MB, answers of 1.5 kB;
- nothing fails.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..recipes.wall import UNIT_SECONDS, stage_wall

GPUS = (1, 8, 64, 256)
PROMPTS = (1000, 9000, 180_000)
STORES = (1.0, 10.0)
"""GB/s of the shared store, for all nodes together."""
_NODE = 8
_IMAGES = 4 * 1.5e-3  # GB of a prompt
_ANSWER = 1.5e-6


@dataclass(frozen=True)
class SimulatedStage:
    """`seconds` of a prompt on an A100, `load` seconds from a local disk, `weights` in GB, and `moved` GB a prompt."""

    name: str
    seconds: float
    load: float
    weights: float
    moved: float


STAGES = (
    SimulatedStage("candidates", 12.6, 60, 17, _IMAGES),
    SimulatedStage("image_scores", 0.072, 30, 1, _IMAGES),
    SimulatedStage("responses-mistral-7b", 0.324, 90, 15, _IMAGES / 4 + _ANSWER),
    SimulatedStage("responses-vicuna-7b", 0.36, 90, 14, _IMAGES / 4 + _ANSWER),
    SimulatedStage("responses-vicuna-13b", 0.648, 120, 26, _IMAGES / 4 + _ANSWER),
    SimulatedStage("response_scores", 0.072, 60, 15, 3 * _ANSWER),
)
"""3.5 A100-hours for 4,000 images of compiled SD3, 0.37 for 3,000 answers under vLLM, 0.02 for scores, per 1,000."""


def simulate(prompts: int, gpus: int, store: float, *, staged: bool = False) -> dict[str, float]:
    """Return hours and the share of them that loading, and waiting at the end of stages, takes.

    `store` in GB/s; `staged`: the weights lie on every node's disk already.
    """
    nodes = -(-gpus // _NODE)
    total = loads = ideal = 0.0
    for stage in STAGES:
        load = stage.load if staged else max(stage.load, stage.weights * nodes / store)
        work, moved = prompts * stage.seconds, prompts * stage.moved / store
        wall = stage_wall(work, 0.0, gpus, UNIT_SECONDS)
        total += load + max(wall, moved)
        loads += load
        ideal += work / gpus
    return {"hours": total / 3600, "loading": loads / total, "waiting": max(0.0, (total - loads - ideal) / total)}


def efficiency(prompts: int, gpus: int, store: float, *, staged: bool = False) -> float:
    """Return the speed-up over one GPU, as a share of the number of GPUs."""
    alone = simulate(prompts, 1, store, staged=staged)["hours"]
    return alone / simulate(prompts, gpus, store, staged=staged)["hours"] / gpus


def table() -> list[dict[str, Any]]:
    """Return a row for every number of prompts, store and number of GPUs."""
    return [
        {
            "prompts": prompts,
            "store_gb_s": store,
            "staged": staged,
            "gpus": gpus,
            **{name: round(value, 4) for name, value in simulate(prompts, gpus, store, staged=staged).items()},
            "efficiency": round(efficiency(prompts, gpus, store, staged=staged), 3),
        }
        for prompts in PROMPTS
        for store, staged in [*((store, False) for store in STORES), (STORES[0], True)]
        for gpus in GPUS
    ]


def main() -> None:
    """Simulate from the command line: a Markdown table, and its rows as JSON on the last line."""
    parser = argparse.ArgumentParser(prog="prefmill bench scaling", description="Simulate 1 to 256 GPUs.")
    parser.add_argument("--to", type=Path, help="write the rows to this JSON file")
    given = parser.parse_args()
    rows = table()
    print("| prompts | store | GPUs | hours | efficiency | loading | waiting |\n|---|---|---|---|---|---|---|")
    for row in rows:
        place = "weights on the nodes" if row["staged"] else f"{row['store_gb_s']:g} GB/s"
        shares = " | ".join(f"{row[name]:.0%}" for name in ("efficiency", "loading", "waiting"))
        print(f"| {row['prompts']:,} | {place} | {row['gpus']} | {row['hours']:.2f} | {shares} |")
    if given.to:
        given.to.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"simulated": rows}))


if __name__ == "__main__":
    main()
