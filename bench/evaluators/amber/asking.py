"""AMBER's questions as a model is asked them, and the rows that its answers become."""

from __future__ import annotations

from ....base.errors import PrefmillError
from ..answering.questions import BenchmarkQuestion
from .data import TASKS, AmberData


def amber_questions_to_ask(data: AmberData, task: str | None = None) -> list[BenchmarkQuestion]:
    """Return the questions of an official task, by default of all. Raises PrefmillError without the query file."""
    if not data.asked:
        raise PrefmillError("AMBER's query_all.json is not in its folder.", "put it there, from data/query of AMBER")
    found = []
    for one in data.annotations:
        if one.dimension not in TASKS[task or "a"]:
            continue
        text, image = data.asked.get(one.id, ("", ""))
        if not (text and image):
            raise PrefmillError(f"query_all.json has no question {one.id}.", "take it and annotations.json together")
        row = {"id": one.id}
        found.append(
            BenchmarkQuestion(str(one.id), text, (image,), row, "response", short=one.dimension != "generative")
        )
    return found
