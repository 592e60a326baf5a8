"""What judges read: an instruction and its answers as they would be trained on.

That is without an echo of the instruction in front, and without the `<image>` marker, which stands for an image in
some formats and for nothing in a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..image_marker import without_marker
from ..pair_policy import clean
from ..records import Reject, Response
from ..sources import Panel


@dataclass(frozen=True)
class ReadAnswer:
    """A response, and what of it is judged."""

    response: Response
    text: str


@dataclass(frozen=True)
class ReadPanel:
    """One instruction as a judge reads it; `prompt` is the image's text-to-image prompt, where the judge reads that."""

    instruction: str
    prompt: str | None
    answers: tuple[ReadAnswer, ...]


def read_panels(panels: Sequence[Panel], stage: str, *, with_prompts: bool) -> tuple[list[ReadPanel], list[Reject]]:
    """Return what there is to judge, one reading per panel, and the answers that say nothing."""
    readings, rejects = [], []
    for panel in panels:
        instruction = without_marker(panel.instruction.text)
        answers = []
        for answer in panel.answers:
            if text := clean(without_marker(answer.response.text), instruction):
                answers.append(ReadAnswer(answer.response, text))
            else:
                rejects.append(Reject(answer.response.id, stage, "empty", "nothing to judge"))
        prompt = without_marker(panel.prompt) if with_prompts and panel.prompt else None
        readings.append(ReadPanel(instruction, prompt, tuple(answers)))
    return readings, rejects
