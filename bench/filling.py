"""The tiny recipe's stages with their models replaced by ones that make rows at once: for trials of everything else.

Workers make them anew from what can be sent to them, like those of a real recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..pipeline.records import Candidate, Reject, Response, Score, content_id
from ..pipeline.stage import Stage, Task
from ..pipeline.store import Run
from ..pipeline.synthesis import tasks_of
from ..recipes.settings import override
from ..recipes.tiny import tiny


class FakeStage(Stage[Any, Any]):
    """Makes the rows of a stage with a model, by the stage's name, without one; `a` does not answer every 16th time."""

    def __init__(self, name: str) -> None:
        self.name = name

    def compute(self, prepared: Sequence[Any]) -> list[Any]:
        """Make the rows."""
        if self.name == "candidates":
            return [self._candidate(prompt, number) for prompt in prepared for number in range(4)]
        if self.name == "image_scores":
            return [Score(image.candidate_id, "fake", _value(image.candidate_id)) for image in prepared]
        if self.name == "response_scores":
            return [
                Score(answer.response.id, "fake", _value(answer.response.id))
                for panel in prepared
                for answer in panel.answers
            ]
        return [self._response(question.instruction) for question in prepared]

    def _candidate(self, prompt: Any, number: int) -> Candidate:
        identity = content_id("candidate", prompt.id, number)
        return Candidate(identity, prompt.id, 1, 1, b"x" * 64, "fake", seed=number, guidance=float(number))

    def _response(self, instruction: Any) -> Response | Reject:
        identity = content_id("response", instruction.id, self.name)
        if self.name.endswith("-a") and identity[0] == "0":
            return Reject(instruction.id, self.name, "empty")
        text = f"An answer to {instruction.text} by {self.name}, number {int(identity[:6], 16)}."
        return Response(identity, instruction.image_id, instruction.id, "fake", text, "stop", 12, 1)


def _value(identity: str) -> float:
    return int(identity[:8], 16) / 0xFFFFFFFF


def filling_tasks(folder: Path, prompts: Path, batch: int = 256) -> list[Task]:
    """Return the tasks of a run's folder for the prompts of a file."""
    tasks = tasks_of(Run(folder), override(tiny(), [f"prompts.path={prompts}"]))
    return [_filling(task, partial(_filling_task, folder, prompts, batch, task.name), batch) for task in tasks]


def _filling(task: Task, again: partial[Task], batch: int) -> Task:
    if not task.checkpoints:
        return task
    return replace(task, build=partial(FakeStage, task.name), batch_size=batch, follows="", again=again)


def _filling_task(folder: Path, prompts: Path, batch: int, name: str) -> Task:
    return next(task for task in filling_tasks(folder, prompts, batch) if task.name == name)


def write_prompts(path: Path, count: int) -> Path:
    """Write so many prompts, and return the file."""
    path.write_text("".join(f"scene {number}: a red kite over the sea\n" for number in range(count)))
    return path
