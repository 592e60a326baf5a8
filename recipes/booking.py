"""A training's device time: booked by who starts it, since its workers know nothing of the run they train for."""

from __future__ import annotations

import time
from pathlib import Path

from ..base.progress import Progress
from ..pipeline.budget import Purse
from ..pipeline.device_time import training_time
from ..pipeline.ledger import DeviceLedger, DeviceTime, StageTime
from ..pipeline.store import Run
from ..train.manifest import read_finished
from .trainings import RecipeTraining


def train_booked(
    training: RecipeTraining,
    folder: Path,
    progress: Progress,
    ledger: DeviceLedger,
    purse: Purse | None,
    planned: float,
) -> None:
    """Train on the run in a folder, and put what that took into its ledger, whatever comes of it.

    `planned` device seconds have to fit the budget: a training is one unit, which a budget does not interrupt.
    Raises BudgetSpent where they do not, and whatever the training raises.
    """
    name, processes = training.output.name, training.config.processes
    if read_finished(training.output, training.kind.manifest) is not None:
        training.start(folder, progress)  # which checks what is there
        return
    if purse is not None:
        purse.require(name, planned)
    began, clock = round(time.time(), 3), time.perf_counter()
    finished = False
    try:
        training.start(folder, progress)
        finished = True
    finally:
        held = (time.perf_counter() - clock) * processes
        found = training_time(Run(folder), name) if finished else StageTime()
        work = min(held, found.training) if finished else held
        piece = DeviceTime(
            stage=name,
            what="training",
            seconds=round(work, 3),
            began=began,
            units=found.units,
            device=next(iter(found.devices), ""),
            worker=f"{processes} processes" if processes > 1 else "",
            engine="training",
        )
        loading = piece.model_copy(update={"what": "loading", "seconds": round(held - work, 3), "units": 0})
        ledger.add(*([loading, piece] if finished else [piece]))
