"""What an evaluation at a training's end came to, as the report shows it: measures before and after."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ..store import Run

FILE = "training/evaluation.json"


class EvaluationShown(BaseModel):
    """What the page shows of `evaluation.json`: by measure [before, after], and the ends of a change's interval."""

    model_config = ConfigDict(extra="ignore")

    benchmark: str
    n: int
    measures: dict[str, tuple[float | None, float | None]]
    change: dict[str, tuple[float | None, float | None]] = {}
    mended: int
    broken: int
    mcnemar_p: float
    note: str = ""


def training_evaluation(run: Run) -> EvaluationShown | None:
    """Return the evaluation of the run's training, None where there is none. Raises PrefmillError for a damaged one."""
    return run.read_json(FILE, EvaluationShown)
