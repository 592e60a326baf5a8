"""What `prefmill plan` says after a small run, against what the larger run then takes, stage by stage.

The micro recipe runs on a few prompts; a plan of many, calibrated by that run's ledger, is held against the ledger of
the run of many. Both ledgers count CPU seconds at one thread here, so that other work on the machine is not counted.
Trainings are left out: they run in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ..base.progress import Progress
from ..micro.measure.held_out import held_out_scenes
from ..pipeline.execute.meter import CLOCK
from ..recipes.forecast import forecast
from ..recipes.preflight import plan_run
from ..recipes.run import run_recipe
from ..recipes.settings import override
from .micro_recipe import micro_recipe
from .result_file import called, write_result


def compare(folder: Path, small: int, large: int, progress: Progress) -> dict[str, Any]:
    """Run, plan and run; return the claims: planned and actual seconds of every stage and together, and their ratio."""
    torch.set_num_threads(1)
    CLOCK.read = time.process_time
    try:
        prompts, _ = held_out_scenes("test", small + large, 1, 0)
        few = micro_recipe(folder / "prompts-few", prompts[:small], 0)
        many = micro_recipe(folder / "prompts-many", prompts[small:], 1)
        warm = override(few, ["prompts.limit=1"])  # imports happen once in a process, and both runs are in this one
        run_recipe(folder / "warm", warm, progress, train=False)
        run_recipe(folder / "few", few, progress, train=False)
        plan = plan_run(folder / "many", many, train=False)
        expected = forecast(plan, many, sources=[folder / "few"])
        finished = run_recipe(folder / "many", many, progress, train=False)
    finally:
        CLOCK.read = time.perf_counter
    planned = {stage.name: stage.held for stage in expected.stages}
    actual = {entry.stage: entry.actual for entry in finished.taken}
    stages = {name: [round(seconds or 0.0, 3), actual[name]] for name, seconds in planned.items()}
    together = [round(sum(values), 2) for values in zip(*stages.values(), strict=True)]
    return {
        "prompts": [small, large],
        "planned_vs_actual": round(together[0] / together[1], 3),
        "cpu_seconds": together,
        "stages": stages,
    }


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(prog="prefmill bench planning", description="A plan against the run it is of.")
    parser.add_argument("--small", type=int, default=8, help="prompts of the run that calibrates")
    parser.add_argument("--large", type=int, default=64, help="prompts of the run that is planned")
    parser.add_argument("--to", type=Path, help="write the result to this JSON file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        claims = compare(Path(folder), given.small, given.large, Progress())
    if given.to:
        setting = {"recipe": "micro", "small": given.small, "large": given.large, "threads": 1}
        write_result(given.to, called("prefmill bench planning"), setting, claims)
    print(json.dumps(claims))


if __name__ == "__main__":
    main()
