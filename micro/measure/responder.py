"""How well a micro responder sees and how much it invents: CHAIR and POPE of its greedy answers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...engine.responders.interface import Answer, Request
from ...engine.responders.transformers import TransformersResponder
from ...engine.settings import EngineSettings, Sampling
from ..world.language import describe_instruction
from ..world.render import render_all
from ..world.scenes import Split, sample_scenes
from .hallucination import POPE_STRATEGIES, chair, pope, pope_questions

GREEDY = Sampling(max_new_tokens=64)
_SCENES, _QUICK_SCENES = 300, 60


def measure_responder(folder: Path, split: Split = "dev", *, quick: bool = False) -> dict[str, float]:
    """CHAIR and POPE (random, popular and adversarial together) on clean drawings of scenes of a split, 0 to 1."""
    responder = TransformersResponder.from_pretrained(str(folder), EngineSettings(device="cpu", dtype="float32"))
    scenes = sample_scenes(split, _QUICK_SCENES if quick else _SCENES, 0)
    images = render_all(scenes, 0)
    found = chair(ask(responder, images, [describe_instruction(0).text] * len(scenes)), scenes)
    questions = [each for strategy in POPE_STRATEGIES for each in pope_questions(scenes, strategy)]
    answers = ask(responder, images[[each.scene for each in questions]], [each.question.text for each in questions])
    polled = pope(answers, [each.truth for each in questions])
    measured = {
        "chair_s": found.chair_s,
        "chair_i": found.chair_i,
        "object_recall": found.object_recall,
        "pope_accuracy": polled.accuracy,
        "pope_f1": polled.f1,
        "pope_yes_ratio": polled.yes_ratio,
    }
    return {name: round(value, 4) for name, value in measured.items()}


def ask(
    responder: TransformersResponder,
    images: np.ndarray,
    instructions: Sequence[str],
    sampling: Sampling = GREEDY,
    seed: int = 0,
    batch_size: int = 128,
) -> list[str]:
    """Answers about uint8 images [N, H, W, 3], one instruction each, as texts; row n draws with `seed + n`."""
    texts = []
    for start in range(0, len(instructions), batch_size):
        rows = range(start, min(start + batch_size, len(instructions)))
        pictures = [Image.fromarray(images[row]) for row in rows]
        asked = [instructions[row] for row in rows]
        requests = [
            Request(text, seed + row, (picture,)) for text, row, picture in zip(asked, rows, pictures, strict=True)
        ]
        texts += [reply.text if isinstance(reply, Answer) else "" for reply in responder.answer(requests, sampling)]
    return texts
