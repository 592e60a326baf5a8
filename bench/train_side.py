"""One side of the training benchmark, in a process of its own: trains when told to, and says what it cost.

    python -m prefmill.bench.train_side RUNG FOLDER SETTING

FOLDER holds the model and the run, SETTING is JSON. It trains once for every line of stdin, into the folder that the
line names, and answers each with a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from .memory_growth import device_growth, give_back_memory, process_growth

Timing = dict[str, Any]
"""cpu, wall: seconds of a training; steps: wall seconds of its steps alone; growth: bytes of memory that it took;
losses: one per step."""
Side = Callable[[str], Timing]


@contextlib.contextmanager
def side_process(rung: str, folder: Path, setting: dict[str, Any]) -> Iterator[Side]:
    """Start a side, and yield what trains it once into a folder."""
    command = [sys.executable, "-W", "ignore", "-m", "prefmill.bench.train_side", rung, str(folder)]
    command.append(json.dumps(setting))
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
                raise PrefmillError(f"the {rung} side ended early; its words are above", "give the command again")
            return json.loads(line)

        try:
            yield ask
        finally:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()


def train_once(rung: str, folder: Path, output: str, setting: dict[str, Any]) -> Timing:
    """Train a fresh adapter in this process, its caches built inside the measured time."""
    import torch
    from transformers import AutoProcessor

    from ..train.collate import PairCollator
    from ..train.data import RunImages, load_pairs
    from ..train.job import TrainingJob
    from ..train.settings import DPOTrainingConfig
    from .train_rungs import build_rung

    changes: dict[str, Any] = {"cache_gigabytes": 0} if rung == "prefix" else {}
    config = DPOTrainingConfig(
        backend="trl" if rung == "trl" else "shared",
        model=str(folder / "model"), zero_stage=0, learning_rate=1e-3, save_every=1_000_000, **changes, **setting,
    )  # fmt: skip
    collator = PairCollator(AutoProcessor.from_pretrained(folder / "model"))
    run, target = folder / "run", folder / output
    target.mkdir()
    cuda = config.device == "cuda"
    job = TrainingJob(
        config, folder / "model", collator, load_pairs(run), RunImages(run), target, None,
        "cuda" if cuda else "cpu", "bfloat16" if cuda else "float32", 0.0,
    )  # fmt: skip
    trainer = build_rung(rung, job)
    give_back_memory()
    wall, cpu = time.perf_counter(), time.process_time()
    with device_growth() if cuda else process_growth() as grown:
        trainer.train()
        if cuda:
            torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    lines = job.metrics.read()
    return {
        "cpu": cpu,
        "wall": wall,
        "growth": grown(),
        "steps": sum(line["seconds"] for line in lines),
        "losses": [line["loss"] for line in lines],
    }


def _serve(rung: str, folder: Path, setting: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(setting.pop("threads"))
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the trainers print every step
        for line in sys.stdin:
            name = line.strip()
            changes = {"max_steps": 1} if name == "warm" else {}
            timing = train_once(rung, folder, f"{rung}-{name}", {**setting, **changes})
            answers.write(json.dumps(timing) + "\n")
            answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
