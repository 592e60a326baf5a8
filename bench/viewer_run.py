"""A run of any size for the viewer's measurements: real shards and manifests, made-up rows, no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.images import encode_image
from ..pipeline.records import (
    Candidate,
    Instruction,
    Pair,
    Prompt,
    Reject,
    Response,
    Score,
    Selection,
    content_id,
)
from ..pipeline.shards import Footer, write_shard
from ..pipeline.store import Run

GUIDANCE = (3.0, 5.0, 7.0, 9.0)
RESPONDERS = ("a", "b", "c")
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_PER_SHARD = 500  # prompts
_PICTURES = 48
_TEXT = "red kite blue boat green apple old mill white horse dark forest bright sea small town stone bridge"
_WORDS = _TEXT.split()


def make_run(folder: Path, prompts: int, side: int = 192) -> Run:
    """Write a run of so many prompts: four images each, a question, three answers, a pair or a reject.

    Images are `side` x `side` JPEGs, 48 different ones, since nobody looks at all of them.
    """
    run, random = Run(folder), np.random.default_rng(0)
    pictures = [encode_image(_picture(random, side), "jpeg", quality=90) for _ in range(min(_PICTURES, 4 * prompts))]
    made: dict[str, list[int]] = {}
    for start in range(0, prompts, _PER_SHARD):
        stop = min(prompts, start + _PER_SHARD)
        entries = [_Entry(number, side, pictures, random) for number in range(start, stop)]
        for stage, (record, rows, unit) in _STAGES.items():
            (folder / stage).mkdir(parents=True, exist_ok=True)
            found = [row for entry in entries for row in rows(entry)]
            rejects = tuple(entry.reject for entry in entries if entry.reject) if stage == "pairs" else ()
            write_shard(folder / stage, start * unit, stop * unit, record, found, Footer("bench", rejects))
            made.setdefault(stage, []).extend([len(found), len(rejects)])
    for stage, counts in made.items():
        rejected = sum(counts[1::2])
        run.write_manifest(
            stage,
            {
                **{"stage": stage, "fingerprint": "bench", "config": {}, "models": ["made-up"], "notices": []},
                **{"complete": True, "inputs": prompts * _STAGES[stage][2], "outputs": sum(counts[::2])},
                **{"rejects": {"too_few_answers": rejected} if rejected else {}, "seconds": 1.0, "cost": None},
            },
        )
    return run


def _picture(random: np.random.Generator, side: int) -> np.ndarray:
    """Smooth colours with some noise, uint8 [side, side, 3]: compresses like a photograph."""
    coarse = random.integers(0, 256, (6, 6, 3)).repeat(-(-side // 6), 0).repeat(-(-side // 6), 1)[:side, :side]
    return np.clip(coarse + random.normal(0, 14, (side, side, 3)), 0, 255).astype(np.uint8)


class _Entry:
    """Everything that belongs to one prompt."""

    def __init__(self, number: int, side: int, pictures: Sequence[bytes], random: np.random.Generator) -> None:
        text = " ".join(random.choice(_WORDS, 14))
        self.prompt = Prompt(content_id("prompt", number), number + 1, f"{text}, number {number}", f"made:{number}")
        self.images = [
            Candidate(
                *(content_id("image", number, scale), self.prompt.id, side, side),
                *(pictures[int(random.integers(len(pictures)))], "made-up", None, number * 1000, scale, 28),
            )
            for scale in GUIDANCE
        ]
        values = random.normal(size=len(GUIDANCE)).tolist()
        self.image_scores = [
            Score(image.id, "made-up", value) for image, value in zip(self.images, values, strict=True)
        ]
        best = int(np.argmax(values))
        first, second = sorted(values)[-1:-3:-1]
        self.selection = Selection(self.prompt.id, self.images[best].id, first, first - second)
        image = self.images[best].id
        self.question = Instruction(content_id("instruction", number), image, "Describe the image.", "template")
        self.answers = [
            Response(
                *(content_id("answer", number, name), image, self.question.id, f"model-{name}"),
                *(" ".join(random.choice(_WORDS, 60)), "stop", 60),
            )
            for name in RESPONDERS
        ]
        judged = random.normal(size=len(RESPONDERS)).tolist()
        self.answer_scores = [
            Score(answer.id, "judge", value, False, dict(zip(ATTRIBUTES, random.random(5).tolist(), strict=True)))
            for answer, value in zip(self.answers, judged, strict=True)
        ]
        chosen, rejected = self.answers[int(np.argmax(judged))], self.answers[int(np.argmin(judged))]
        identity, margin = content_id("pair", number), max(judged) - min(judged)
        self.pair = Pair(
            *(identity, image, self.question.text, chosen.text, rejected.text),
            *(chosen.id, rejected.id, margin),
        )
        detail = "made-up: every eleventh"
        self.reject = Reject(self.question.id, "pairs", "too_few_answers", detail) if number % 11 == 10 else None


_Rows = Callable[[_Entry], Sequence[Any]]
_STAGES: dict[str, tuple[type, _Rows, int]] = {
    "prompts": (Prompt, lambda entry: [entry.prompt], 1),
    "candidates": (Candidate, lambda entry: entry.images, 1),
    "image_scores": (Score, lambda entry: entry.image_scores, len(GUIDANCE)),
    "selections": (Selection, lambda entry: [entry.selection], 1),
    "instructions": (Instruction, lambda entry: [entry.question], 1),
    **{
        f"responses-{name}": (Response, lambda entry, place=place: [entry.answers[place]], 1)
        for place, name in enumerate(RESPONDERS)
    },
    "response_scores": (Score, lambda entry: entry.answer_scores, 1),
    "pairs": (Pair, lambda entry: [] if entry.reject else [entry.pair], 1),
}
