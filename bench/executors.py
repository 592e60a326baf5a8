"""What executors cost: `processes` with one worker against `local`, and the store at 100,000 prompts.

    prefmill bench executors [--prompts 1000] [--turns 3] [--scale 10000,100000] [--to FILE]

Overhead: a run of two stages, one that reads prompts and one of fake work, a second of sleep for every hundred of them,
in this process and by one worker, sides taking turns; seconds of wall time from the plan to the last commit. In a run's
first stage with a model the worker's process may still be starting, those after it find it there: both are measured.
Scale: the tiny recipe's stages, their models replaced by ones that make rows at once, in a process for each size; CPU
seconds and the kernel's peak of memory, and the exponent between the sizes. The last line of output is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..base.progress import Progress
from ..pipeline.execute.local import run_tasks
from ..pipeline.execute.processes import ProcessCrew
from ..pipeline.execute.work import ExecutorConfig
from ..pipeline.store import Run
from .sleeping import sleeping_task

BATCH, SECONDS = 100, 1.0


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="prefmill bench executors", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--scale", default="10000,100000", help="numbers of prompts; none: leave it out")
    parser.add_argument("--to", type=Path, default=Path("bench/results/executors-cpu.json"))
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        print(json.dumps(_fill(options.fill)))
        return
    from .result_file import called, write_result  # torch, which a filling process need not wait for

    claims: dict[str, Any] = {}
    turns = [_turn(options.prompts) for _ in range(options.turns)]
    if turns:
        claims["overhead_first_stage"] = round(statistics.median(first / local for local, first, _ in turns) - 1, 4)
        claims["overhead_later_stage"] = round(statistics.median(later / local for local, _, later in turns) - 1, 4)
    sizes = [int(size) for size in options.scale.split(",") if size.strip() not in {"", "none"}]
    fills = [_filled(size) for size in sizes]
    for before, after in itertools.pairwise(fills):
        grown = math.log(after["cpu_seconds"] / before["cpu_seconds"]) / math.log(after["prompts"] / before["prompts"])
        claims["exponent"] = round(grown, 3)
    if fills:
        claims["peak_gb"] = fills[-1]["peak_gb"]
    setting = {"prompts": options.prompts, "batch": BATCH, "seconds": SECONDS, "sizes": sizes}
    ratios = [[round(first / local, 4), round(later / local, 4)] for local, first, later in turns]
    write_result(options.to, called(parser.prog), setting, claims, ratios=ratios, fills=fills)
    print(json.dumps(claims))


def _turn(prompts: int) -> tuple[float, float, float]:
    """Return the seconds of this process, of a worker that has to be started, and of the same one once more."""
    crew = ProcessCrew([None])
    try:
        return _seconds(prompts, None), _seconds(prompts, crew), _seconds(prompts, crew)
    finally:
        crew.close()


def _seconds(prompts: int, crew: ProcessCrew | None) -> float:
    from .filling import filling_tasks, write_prompts

    with tempfile.TemporaryDirectory() as folder, Run.writing(Path(folder) / "run") as run:
        reading = filling_tasks(run.folder, write_prompts(Path(folder) / "prompts.txt", prompts))[0]
        tasks = [reading, sleeping_task(run.folder, prompts, BATCH, SECONDS)]
        began = time.perf_counter()
        run_tasks(run, tasks, ExecutorConfig(), Progress(), crew=crew)
        return time.perf_counter() - began


def _filled(prompts: int) -> dict[str, float]:
    command = [sys.executable, "-m", "prefmill.bench.executors", "--fill", str(prompts)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return json.loads(lines[-1])


def _fill(prompts: int) -> dict[str, float]:
    """Bring so many prompts through all stages, in this process, and return what that took."""
    from .filling import filling_tasks, write_prompts

    with tempfile.TemporaryDirectory() as folder:
        path = write_prompts(Path(folder) / "prompts.txt", prompts)
        with Run.writing(Path(folder) / "run") as run:
            tasks = filling_tasks(run.folder, path)
            began = time.process_time()
            run_tasks(run, tasks, ExecutorConfig(), Progress())
            seconds = time.process_time() - began
            rows = sum(len(run.dataset(task.name, task.output)) for task in tasks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"prompts": prompts, "rows": rows, "cpu_seconds": round(seconds, 1), "peak_gb": round(peak, 3)}


if __name__ == "__main__":
    main()
