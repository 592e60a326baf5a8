"""The pictures that micro annotators are taught on, and endless batches of lessons about them, as tokens.

Groups of four: the generator's drawings, mixtures decoded by its autoencoder, and renders with near misses, roughened.
A third of the prompts has an unsafe thing, which is rare otherwise. A group is asked about with the prompt it was made
for, with what one of its pictures shows, or with a near miss of that. No dev or test combination comes in.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from ...engine.responders.image_ratings import ASPECTS, ratings_form, ratings_request
from ...engine.responders.structured import described_form
from ..world.aspects import aspect_ratings, rubric
from ..world.candidates import Candidates, draw_candidates, judged_groups, open_generator
from ..world.language import caption
from ..world.oracle import Reading
from ..world.scenes import CELLS, UNSAFE_KINDS, Scene, sample_scenes
from ..world.truth import cell_labels
from .annotator_lessons import Errors, lesson
from .annotator_words import NUMBERS, OPENINGS, answer_tokens, request_tokens
from .morphs import morph_candidates
from .packing import IGNORED
from .preferences import GROUP, PreferenceStream, of_training_only, rendered_candidates
from .training import OnProgress, TrainingStep, reproducible

DRAWN, MORPHED, RENDERED = 300, 900, 1200
GUIDANCE = (1.0, 3.0, 5.0, 9.0)
DRAWING_STEPS = 10
IMAGES = (1, 2, 3, 3, 4, 4, 4, 4)
"""Images of a request, drawn evenly from these: most prompts have four, and one that lost some has fewer."""
CELL_STATES = 5
"""Of a cell: empty as asked, as asked, another thing than asked, missing, too much."""
_ASPECT_SHARES = (0.4, 0.2, 0.2, 0.2)
"""Whether a prompt was followed is the hardest to learn."""
_SEED = 606
"""Apart from the seeds of other checkpoints' pictures."""
_UNSAFE_SHARE = 1 / 3
_DECISIVE_WEIGHT = 3.0
"""Of ratings and of a rationale's first word: they have to look, where most words follow from the one before."""


@dataclass(frozen=True)
class Lessons:
    """B requests about K images each with their answers, padded on the right to T tokens.

    rows [B, K] into the pool's images; input_ids, labels [B, T] int64, weights [B, T] float32, as `packing.Turns`. What
    heads are taught: `states` [B, K, 4] of each cell, `asked` [B, 4, 2] kinds and colours, `ratings` [B, K, 4] from 0.
    """

    rows: torch.Tensor
    input_ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    states: torch.Tensor
    asked: torch.Tensor
    ratings: torch.Tensor

    def without_answers(self) -> "Lessons":
        """The requests alone; the shorter ones keep a part of their answers behind them."""
        length = int((self.labels == IGNORED).int().cumprod(1).sum(1).max()) + 1
        cut = {name: getattr(self, name)[:, :length] for name in ("input_ids", "labels", "weights")}
        return replace(self, **cut)


def annotator_pool(generator: Path, seed: int, on_progress: OnProgress) -> Candidates:
    """Training pictures in groups of four, read by the oracle."""
    model = open_generator(generator)
    seed += _SEED
    with reproducible(seed + 1):
        drawn = draw_candidates(model, _scenes(DRAWN, seed + 31), seed + 32, guidance=GUIDANCE, steps=DRAWING_STEPS)
        on_progress(TrainingStep("pictures to rate", DRAWN, DRAWN, 1 - float(drawn.exact.mean()), 0.0))
        mixed = morph_candidates(model.autoencoder, _scenes(MORPHED, seed + 33), seed + 34)
    rendered = rendered_candidates(RENDERED, seed + 35)
    read = judged_groups(rendered.scenes, rendered.images.reshape(-1, *rendered.images.shape[2:]))
    return of_training_only(drawn + mixed + read)


class LessonStream:
    """Endless batches of lessons out of a pool."""

    def __init__(self, pool: Candidates, tokenizer: PreTrainedTokenizerFast, errors: Errors, seed: int) -> None:
        self.groups = PreferenceStream(pool, seed)
        self.readings = [
            Reading(scene, float(residual))
            for scene, residual in zip(self.groups.shown, pool.residual.flatten(), strict=True)
        ]
        self.tokenizer, self.vocabulary, self.errors = tokenizer, tokenizer.get_vocab(), errors
        self.openings = [self.vocabulary[piece] for piece in OPENINGS]
        self.random = np.random.default_rng([seed, 6])

    def batch(self, count: int) -> Lessons:
        """Lessons about one to four images each, as many in all of them."""
        shown = int(self.random.choice(IMAGES))
        rows, turns, asked, ratings = [], [], [], []
        for number in self.random.integers(len(self.groups.asked), size=count).tolist():
            scene = self.groups.prompt_of(number)
            chosen = (number * GROUP + self.random.permutation(GROUP)[:shown]).tolist()
            readings = [self.readings[row] for row in chosen]
            aspect = str(self.random.choice(ASPECTS, p=_ASPECT_SHARES))
            turns.append(self._turn(aspect, scene, readings))
            rows.append(chosen)
            asked.append(scene)
            ratings.append([list(aspect_ratings(scene, reading).values()) for reading in readings])
        wanted = cell_labels(asked)
        there = cell_labels([self.groups.shown[row] for chosen in rows for row in chosen]).view(count, shown, 4, 2)
        ids, labels, weights = self._padded(turns)
        return Lessons(
            torch.tensor(rows), ids, labels, weights, _states(wanted[:, None], there), wanted, torch.tensor(ratings) - 1
        )

    def _turn(self, aspect: str, asked: Scene, readings: list[Reading]) -> tuple[list[int], list[int]]:
        text = request_text(aspect, caption(asked), len(readings))
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
        said = answer_tokens(lesson(aspect, asked, readings, self.errors, self.random), self.vocabulary)
        return request_tokens(tokens, len(readings), len(CELLS), self.vocabulary), [*said, self.vocabulary["</s>"]]

    def _padded(self, turns: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shape = (len(turns), max(len(read) + len(said) for read, said in turns) - 1)
        ids = torch.full(shape, self.vocabulary["<pad>"])
        labels, weights = torch.full(shape, IGNORED), torch.zeros(shape)
        numbers = {self.vocabulary[number] for number in NUMBERS}
        for row, (read, said) in enumerate(turns):
            whole, start = [*read, *said], len(read) - 1
            ids[row, : len(whole) - 1] = torch.tensor(whole[:-1])
            labels[row, start : len(whole) - 1] = torch.tensor(said)
            decisive = [token in numbers or before in self.openings for before, token in pairwise([0, *said])]
            heavy = torch.tensor(decisive) * (_DECISIVE_WEIGHT - 1) + 1
            weights[row, start : len(whole) - 1] = heavy
        return ids, labels, weights


def request_text(aspect: str, prompt: str, images: int) -> str:
    """A request as annotators get it: with the micro rubric, and the form that `ask_forms` appends."""
    form = described_form(ratings_form(images, (aspect,)))
    return f"{ratings_request(prompt, {aspect: rubric(aspect)}, images)}\n\n{form}"


def _scenes(count: int, seed: int) -> list[Scene]:
    """Training scenes, a third of which has an unsafe thing."""
    scenes = sample_scenes("train", 6 * count, seed)
    unsafe = [scene for scene in scenes if scene.kinds & UNSAFE_KINDS][: round(_UNSAFE_SHARE * count)]
    safe = [scene for scene in scenes if not scene.kinds & UNSAFE_KINDS]
    return [*unsafe, *safe[: count - len(unsafe)]]


def _states(wanted: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """What became of each cell, long [B, K, 4], by labels [B, 1, 4, 2] and [B, K, 4, 2]."""
    same, asks, has = (wanted == there).all(-1), wanted[..., 0] > 0, there[..., 0] > 0
    states = torch.where(same, asks.long(), 2)
    states = torch.where(asks & ~has, 3, states)
    return torch.where(~asks & has, 4, states)
