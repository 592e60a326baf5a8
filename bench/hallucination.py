"""Does training help? A policy's descriptions and yes/no answers about held-out micro scenes, before and after.

The same questions about the same images go to the policy without and with its adapter, answered greedily. What an
answer says is read back exactly, so hallucination is counted and not judged: CHAIR over descriptions, POPE over yes/no
questions (its three kinds together), and McNemar's exact test on the scenes whose description names something absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..base.hallucination import mcnemar
from ..base.progress import Progress
from ..engine.images import decode_image
from ..engine.responders.interface import Answer, Request
from ..engine.responders.transformers import TransformersResponder
from ..engine.settings import EngineSettings, Sampling
from ..micro.measure.hallucination import (
    POPE_STRATEGIES,
    Chair,
    Pope,
    chair,
    hallucinated_kinds,
    pope,
    pope_questions,
)
from ..micro.world.language import describe_instruction
from ..micro.world.oracle import read_images
from ..micro.world.scenes import Scene

BATCH = 64
SAMPLING = Sampling(max_new_tokens=48)


@dataclass(frozen=True)
class PolicyAnswers:
    """What one policy said: a description per scene, and its quality. `wrong[i]`: description i names the absent.

    `generated` is the CHAIR of descriptions of generated images, whose scenes the oracle reads.
    """

    descriptions: list[str]
    wrong: list[bool]
    chair: Chair
    pope: Pope
    generated: Chair | None = None


def evaluate_policy(
    model: str,
    adapter: Path | None,
    images: np.ndarray,
    scenes: Sequence[Scene],
    settings: EngineSettings,
    progress: Progress | None = None,
    task: str = "questions",
    generated: np.ndarray | None = None,
    questioned: int | None = None,
) -> PolicyAnswers:
    """Ask a policy about images [N, H, W, 3] of known scenes; `task` is the name of that in `progress`.

    `generated` are more images [M, H, W, 3], to describe only. Yes/no questions are about the first `questioned`
    images, by default about all.
    """
    responder = TransformersResponder.from_pretrained(model, settings, adapter=adapter)
    drawn = [] if generated is None else list(generated)
    pictures = [Image.fromarray(image) for image in (*images, *drawn)]
    asked = [question for strategy in POPE_STRATEGIES for question in pope_questions(scenes[:questioned], strategy)]
    tasks = [(number, describe_instruction().text) for number in range(len(pictures))]
    tasks += [(question.scene, question.question.text) for question in asked]
    # answers of one length together: a batch runs as long as its longest answer
    answers: list[str] = []
    progress = progress or Progress()
    progress.begin(task, len(tasks), unit="questions")
    for start in range(0, len(tasks), BATCH):
        numbers, texts = zip(*tasks[start : start + BATCH], strict=True)
        requests = [Request(text, 0, (pictures[number],)) for number, text in zip(numbers, texts, strict=True)]
        rows = responder.answer(requests, SAMPLING)
        answers += [row.text if isinstance(row, Answer) else "" for row in rows]
        progress.step(task, len(rows))
    descriptions, said = answers[: len(scenes)], answers[len(pictures) :]
    wrong = [bool(hallucinated_kinds(text, scene)) for text, scene in zip(descriptions, scenes, strict=True)]
    quality = pope(said, [question.truth for question in asked])
    found = PolicyAnswers(descriptions, wrong, chair(descriptions, scenes), quality)
    if not drawn:
        return found
    shown = [reading.scene for reading in read_images(np.stack(drawn))]
    return replace(found, generated=chair(answers[len(scenes) : len(pictures)], shown))


def absent_words(image: bytes, text: str) -> list[str]:
    """Return the things that an answer says are in an image, and that the oracle does not see there."""
    [reading] = read_images(np.asarray(decode_image(image)))
    return hallucinated_kinds(text, reading.scene)


def compare(before: PolicyAnswers, after: PolicyAnswers) -> dict[str, Any]:
    """Return every measure as [before, after], and McNemar's exact p over the scenes."""
    mended, broken, p = mcnemar(before.wrong, after.wrong)
    pairs = {
        "chair_s": (before.chair.chair_s, after.chair.chair_s),
        "chair_i": (before.chair.chair_i, after.chair.chair_i),
        "object_recall": (before.chair.object_recall, after.chair.object_recall),
        "pope_accuracy": (before.pope.accuracy, after.pope.accuracy),
        "pope_f1": (before.pope.f1, after.pope.f1),
        "pope_yes_ratio": (before.pope.yes_ratio, after.pope.yes_ratio),
    }
    if before.generated and after.generated:
        for name in ("chair_s", "chair_i", "object_recall"):
            pairs[f"{name}_generated"] = (getattr(before.generated, name), getattr(after.generated, name))
    return {
        **{name: list(values) for name, values in pairs.items()},
        "mcnemar_p": p,
        "mended": mended,
        "broken": broken,
        "n": len(before.wrong),
    }
