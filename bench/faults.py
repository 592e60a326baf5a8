"""Fault trials of the executors: kill workers, drivers and machines at random points, and compare what comes out.

    prefmill bench faults [--engines processes,ray] [--points 5] [--to FILE]

A stage of fake work (`sleeping.py`) is computed by two workers while something is killed; a killed driver is started
again. Each trial must end in the rows and rejects of one undisturbed process, with no input in two shards, and with at
most one unit for each worker computed twice; a unit is one batch here. The last line of output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.progress import Progress
from ..pipeline.execute.crew import Crew
from ..pipeline.execute.local import run_tasks
from ..pipeline.execute.processes import ProcessCrew
from ..pipeline.execute.ray_actors import RayCrew
from ..pipeline.execute.work import ExecutorConfig
from ..pipeline.records import Score
from ..pipeline.store import Run
from .sleeping import NAME, Trouble, begun_by, sleeping_task

INPUTS, BATCH, SECONDS, WORKERS = 80, 4, 0.25, 2
PATIENCE = 240.0


@dataclass(frozen=True)
class FaultTrial:
    """What came of one kill. `recomputed`: batches that were begun more than once."""

    engine: str
    victim: str
    after: int
    identical: bool
    twice: int
    recomputed: int
    error: str = ""

    @property
    def held(self) -> bool:
        """Whether it ended as it must."""
        return self.identical and not self.twice and self.recomputed <= WORKERS


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser(prog="prefmill bench faults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--engines", default="processes,ray")
    parser.add_argument("--points", type=int, default=5, help="random points for each victim")
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--to", type=Path, default=Path("bench/results/faults-cpu.json"))
    parser.add_argument("--drive", nargs=3, metavar=("ENGINE", "FOLDER", "ADDRESS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        _drive(*options.drive)
        return
    from .result_file import called, write_result  # torch, which a driver need not wait for

    draw, trials = random.Random(options.seed), list[FaultTrial]()
    with tempfile.TemporaryDirectory() as folder:
        expected = _undisturbed(Path(folder) / "local")
        for engine in options.engines.split(","):
            with _cluster() if engine == "ray" else _no_cluster() as (address, mend):
                victims = ("worker", "driver", "raylet") if engine == "ray" else ("worker", "driver")
                for number, victim in enumerate([victim for victim in victims for _ in range(options.points)]):
                    place = Path(folder) / f"{engine}-{number}"
                    trial = _trial(engine, victim, place, address, draw, expected)
                    if victim == "raylet":
                        mend()
                    trials.append(trial)
                    print(trial, flush=True)
                for trouble in ("kill", "hang"):
                    print(engine, trouble, _poisoned(engine, trouble, Path(folder) / f"{engine}-{trouble}", address))
    held = {f"{engine} {victim}": _held(trials, engine, victim) for engine, victim in _kinds(trials)}
    setting = {"inputs": INPUTS, "batch": BATCH, "seconds": SECONDS, "workers": WORKERS, "seed": options.seed}
    write_result(options.to, called(parser.prog), setting, held, trials=[asdict(trial) for trial in trials])
    print(json.dumps(held))


def _kinds(trials: list[FaultTrial]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((trial.engine, trial.victim) for trial in trials))


def _held(trials: list[FaultTrial], engine: str, victim: str) -> str:
    own = [trial for trial in trials if (trial.engine, trial.victim) == (engine, victim)]
    return f"{sum(trial.held for trial in own)} of {len(own)}"


def _drive(engine: str, folder: str, address: str, trouble: Trouble | None = None) -> None:
    """Be the driver: bring the run in a folder to its end."""
    config = ExecutorConfig(engine="ray", address=address or None, workers=WORKERS, unit_seconds=0, slowest=30)
    crew: Crew = RayCrew(config) if engine == "ray" else ProcessCrew([None] * WORKERS)
    try:
        with Run.writing(folder) as run:
            work = sleeping_task(run.folder, INPUTS, BATCH, SECONDS if trouble is None else 0.0, trouble)
            config = config if trouble is None else config.model_copy(update={"slowest": 5.0})
            run_tasks(run, [work], config, Progress(), crew=crew)
    finally:
        crew.close()


def _undisturbed(folder: Path) -> Any:
    with Run.writing(folder) as run:
        run_tasks(run, [sleeping_task(folder, INPUTS, BATCH)], ExecutorConfig(), Progress())
    return _content(folder)


def _content(folder: Path) -> Any:
    dataset = Run(folder).dataset(NAME, Score)
    return list(dataset), sorted(dataset.rejects(), key=str)


def _trial(
    engine: str,
    victim: str,
    folder: Path,
    address: str,
    draw: random.Random,
    expected: Any,
) -> FaultTrial:
    after = draw.randrange(2, INPUTS // BATCH - 4)
    driver = _start(engine, folder, address)
    began = time.monotonic()
    while len(begun_by(folder)) < after:
        time.sleep(0.01)
        if driver.poll() is not None or time.monotonic() - began > PATIENCE:
            driver.kill()
            return FaultTrial(engine, victim, after, False, 0, 0, "the driver ended before anything was killed")
    time.sleep(draw.random() * SECONDS)
    worker = begun_by(folder)[-1][1]
    pid = {"worker": worker, "driver": driver.pid, "raylet": _parent_of(worker)}[victim]
    os.kill(pid, signal.SIGKILL)
    if victim == "driver":
        driver.wait()
        driver = _start(engine, folder, address)
    try:
        code = driver.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        driver.kill()
        return FaultTrial(engine, victim, after, False, 0, 0, f"not done after {PATIENCE:.0f} s")
    dataset = Run(folder).dataset(NAME, Score)
    shards = Counter(number for shard in dataset.shards for number in range(shard.start, shard.stop))
    twice = sum(count > 1 for count in shards.values()) + len(dataset.conflicts)
    recomputed = sum(count - 1 for count in Counter(start for start, _ in begun_by(folder)).values())
    error = "" if code == 0 else f"the driver ended with {code}"
    return FaultTrial(engine, victim, after, _content(folder) == expected, twice, recomputed, error)


def _parent_of(pid: int) -> int:
    """Return the process that started another: of an actor's, the raylet of its machine."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _start(engine: str, folder: Path, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefmill.bench.faults", "--drive", engine, str(folder), address]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def _poisoned(engine: str, trouble: Any, folder: Path, address: str) -> str:
    """Return what is said of an input that kills or hangs every worker, and how many rows the others made."""
    try:
        _drive(engine, str(folder), address, Trouble(trouble, 21))
    except PrefmillError as error:
        return f"{len(Run(folder).dataset(NAME, Score))} rows; {error.message}"
    return "it was not found"


@contextmanager
def _no_cluster() -> Iterator[tuple[str, Callable[[], object]]]:
    yield "", lambda: None


@contextmanager
def _cluster() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the address of a head without workers and two machines with one each, and what adds a machine."""
    from ray.cluster_utils import Cluster

    shared: dict[str, Any] = {"object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**shared, "num_cpus": 0, "include_dashboard": False})

    def add() -> object:
        return cluster.add_node(num_cpus=1, **shared)

    for _ in range(WORKERS):
        add()
    assert cluster.address is not None
    try:
        yield cluster.address, add
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
