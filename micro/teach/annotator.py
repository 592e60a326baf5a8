"""Train a micro annotator: it learns to see, then to compare, then to say what it found, as JSON with reasons.

To compare: half-way through the language model every patch learns what its cell should show and whether it does, and a
layer later the number behind each image its four ratings, told to heads that are thrown away afterwards. Requests alone
and the first layers suffice for that, at a third of the price. To say it, the token that opens an image's entry learns
the same of that image another layer later: without being told, an answer took very long to look at its image at all.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import CLIPVisionModel, LlamaModel, LlavaForConditionalGeneration

from ...engine.quiet import quiet_loading
from ...engine.responders.image_ratings import ASPECTS
from ..world.aspects import loss as unexplained
from ..world.candidates import Candidates
from ..world.oracle import Reading
from ..world.render import CELL_SIZE
from ..world.scenes import BACKGROUNDS, CELLS, COLOURS, KINDS
from ..world.truth import cell_labels, ground_labels
from .annotator_lessons import NO_ERRORS, Errors
from .annotator_pictures import CELL_STATES, Lessons, LessonStream, annotator_pool
from .annotator_words import NUMBERS, TEMPLATE, annotator_tokenizer
from .packing import IGNORED
from .responder_models import build_llava, llava_processor
from .training import OnProgress, Trainer, plain_attention, reproducible, to_half, to_model_range
from .vision_tower import patch_states

PATCH_SIZE = CELL_SIZE
"""A patch is a cell: fewer tokens, and none that has to be put together with others."""
VISION_STEPS, VISION_BATCH, VISION_RATE = 1800, 64, 2e-3
BATCH, LEARNING_RATE = 32, 2.5e-3
COMPARING_SHARE, HOLD = 0.25, 0.7
"""Of the steps: those without answers, and those before the learning rate falls."""
_SEEING_LAYER, _RATING_LAYER, _SAYING_LAYER = 3, 4, 5
"""After which the heads read."""
_ROUGHNESS_WEIGHT = 5.0
_SEEN = (1 + len(KINDS), 1 + len(COLOURS), len(BACKGROUNDS))
_ASKED = (CELL_STATES, 1 + len(KINDS), 1 + len(COLOURS))
"""Classes of what heads are asked for of each cell."""


@dataclass(frozen=True, slots=True)
class AnnotatorSpec:
    """Sizes, length of the training in steps, the seed's offset, and the errors of one annotator."""

    seed: int
    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    steps: int
    errors: Errors


ANNOTATORS: dict[str, AnnotatorSpec] = {
    "annotator-a": AnnotatorSpec(606, 96, 3, 128, 6, 1500, NO_ERRORS),
    "annotator-b": AnnotatorSpec(707, 96, 3, 128, 6, 1200, Errors(overlooked=0.75, first_raised=0.7, slipped=0.15)),
}


def train_annotator(name: str, folder: Path, seed: int, on_progress: OnProgress, generator: Path) -> None:
    """Train one of ANNOTATORS on pictures that `generator` draws, and others, and save it in half precision."""
    spec = ANNOTATORS[name]
    pool = annotator_pool(generator, seed, on_progress)
    with quiet_loading():
        train_on_pool(pool, spec, folder, seed, on_progress)


def train_on_pool(pool: Candidates, spec: AnnotatorSpec, folder: Path, seed: int, on_progress: OnProgress) -> None:
    """Train on judged groups of four pictures and write model and processor to `folder`."""
    with reproducible(seed + spec.seed):
        tokenizer = annotator_tokenizer()
        model = build_llava(
            tokenizer, spec.vision_width, spec.vision_layers, spec.text_width, spec.text_layers, PATCH_SIZE
        )
        model.train()
        stream = LessonStream(pool, tokenizer, spec.errors, seed + spec.seed)
        pixels = to_model_range(stream.groups.images)
        tower = model.model.vision_tower
        _train_tower(tower, pixels, stream.readings, on_progress)
        tower.requires_grad_(requires_grad=False).eval()
        with torch.no_grad():
            seen = torch.cat([patch_states(tower, part) for part in pixels.split(256)])
        _teach(model, seen, stream, spec.steps, on_progress)
        tower.requires_grad_(requires_grad=True)
        to_half(model).save_pretrained(folder)
        llava_processor(tokenizer, TEMPLATE, PATCH_SIZE).save_pretrained(folder)


def _train_tower(
    tower: CLIPVisionModel, pixels: torch.Tensor, readings: list[Reading], on_progress: OnProgress
) -> None:
    """Teach every patch what is in its cell, and all together how much of the picture no drawing explains."""
    shown = [reading.scene for reading in readings]
    cells, grounds = cell_labels(shown), ground_labels(shown)
    rough = torch.tensor([unexplained(reading) for reading in readings]).clamp(max=1)
    random = torch.Generator().manual_seed(0)
    heads = _SeeingHeads(tower.config.hidden_size)
    trainer = Trainer("vision tower", {"tower": tower, "heads": heads}, VISION_STEPS, VISION_RATE, on_progress)
    for number in range(VISION_STEPS):
        rows = torch.randint(len(pixels), (VISION_BATCH,), generator=random)
        with plain_attention():
            loss = heads.loss(patch_states(tower, pixels[rows]), cells[rows], grounds[rows], rough[rows])
        trainer.step(number, loss)


class _SeeingHeads(torch.nn.Module):
    """What a tower's states are asked for during training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cells = torch.nn.Linear(width, sum(_SEEN))
        self.rough = torch.nn.Linear(width, 1)

    def loss(
        self, patches: torch.Tensor, cells: torch.Tensor, grounds: torch.Tensor, rough: torch.Tensor
    ) -> torch.Tensor:
        """Of patches [B, 4, D]: what is in each, its ground, and of all together how rough they are [B]."""
        kinds, colours, ground = self.cells(patches).split(_SEEN, dim=-1)
        pairs = [(kinds, cells[..., 0]), (colours, cells[..., 1]), (ground, grounds[:, None].expand(-1, len(CELLS)))]
        told = self.rough(patches.mean(1)).squeeze(-1)
        return _cross_entropies(pairs) + _ROUGHNESS_WEIGHT * functional.smooth_l1_loss(told, rough, beta=0.05)


class _Heads(torch.nn.Module):
    """What a language model's own states are asked for during training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cells = torch.nn.Linear(width, sum(_ASKED))
        self.ratings = torch.nn.Linear(width, len(ASPECTS) * len(NUMBERS))
        self.said = torch.nn.Linear(width, len(ASPECTS) * len(NUMBERS) + len(CELLS) * CELL_STATES)

    def said_loss(self, openings: torch.Tensor, lessons: Lessons) -> torch.Tensor:
        """Summed cross-entropy of the tokens [B, K, D] that open the entry of each image."""
        count, images = lessons.rows.shape
        ratings, states = self.said(openings).split((len(ASPECTS) * len(NUMBERS), len(CELLS) * CELL_STATES), dim=-1)
        pairs = [
            (ratings.view(count, images, len(ASPECTS), -1), lessons.ratings),
            (states.view(count, images, len(CELLS), -1), lessons.states),
        ]
        return _cross_entropies(pairs)

    def loss(self, patches: torch.Tensor, marks: torch.Tensor, lessons: Lessons) -> torch.Tensor:
        """Summed cross-entropy of patches [B, K, 4, D] and of marks [B, K, D], which follow each image."""
        found, kinds, colours = self.cells(patches).split(_ASKED, dim=-1)
        wanted = lessons.asked[:, None].expand(-1, patches.shape[1], -1, -1)
        ratings = self.ratings(marks).view(*marks.shape[:-1], len(ASPECTS), len(NUMBERS))
        pairs = [(found, lessons.states), (kinds, wanted[..., 0]), (colours, wanted[..., 1])]
        return _cross_entropies([*pairs, (ratings, lessons.ratings)])


def _cross_entropies(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Summed over pairs of logits [..., C] and classes [...]."""
    return torch.stack([functional.cross_entropy(got.flatten(0, -2), told.flatten()) for got, told in pairs]).sum()


def _teach(
    model: LlavaForConditionalGeneration,
    seen: torch.Tensor,
    stream: LessonStream,
    steps: int,
    on_progress: OnProgress,
) -> None:
    language = model.model.language_model
    heads = _Heads(language.config.hidden_size)
    taught = {"projector": model.model.multi_modal_projector, "language": language, "head": model.lm_head}
    trainer = Trainer("ratings", {**taught, "heads": heads}, steps, LEARNING_RATE, on_progress, hold=HOLD)
    for number in range(steps):
        lessons = stream.batch(BATCH)
        with plain_attention():
            if number < COMPARING_SHARE * steps:
                with _first_layers(language, _RATING_LAYER):
                    loss = _compared(model, heads, seen, lessons.without_answers())[0]
            else:
                loss, states = _compared(model, heads, seen, lessons)
                opens = torch.isin(lessons.input_ids, torch.tensor(stream.openings))
                openings = language.norm(states[_SAYING_LAYER][opens]).view(*lessons.rows.shape, -1)
                loss = loss + heads.said_loss(openings, lessons) + _answered(model, states[-1], lessons)
        trainer.step(number, loss)


@contextmanager
def _first_layers(language: LlamaModel, count: int) -> Iterator[None]:
    """Run only so many layers inside."""
    layers = language.config.num_hidden_layers
    language.config.num_hidden_layers = count
    try:
        yield
    finally:
        language.config.num_hidden_layers = layers


def _compared(
    model: LlavaForConditionalGeneration, heads: _Heads, seen: torch.Tensor, lessons: Lessons
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """The heads' loss, and the language model's states [B, T, D] before each layer and after the last."""
    count, images = lessons.rows.shape
    pictures = model.model.multi_modal_projector(seen[lessons.rows.flatten()])
    shown = lessons.input_ids == model.config.image_token_id
    embedded = model.get_input_embeddings()(lessons.input_ids).masked_scatter(shown[..., None], pictures)
    out = model.model.language_model(inputs_embeds=embedded, use_cache=False, output_hidden_states=True)
    assert out.hidden_states is not None
    patches = out.hidden_states[_SEEING_LAYER][shown].view(count, images, len(CELLS), -1)
    rated = out.hidden_states[_RATING_LAYER]
    if len(out.hidden_states) > _RATING_LAYER + 1:  # only what the last layer gives is normalised there
        rated = model.model.language_model.norm(rated)
    behind = shown.roll(1, 1) & ~shown  # the number that follows each image
    return heads.loss(patches, rated[behind].view(count, images, -1), lessons), out.hidden_states


def _answered(model: LlavaForConditionalGeneration, states: torch.Tensor, lessons: Lessons) -> torch.Tensor:
    """Weighted mean cross-entropy of the answers' tokens."""
    said = lessons.labels != IGNORED
    losses = functional.cross_entropy(model.lm_head(states[said]), lessons.labels[said], reduction="none")
    return (losses * lessons.weights[said]).sum() / lessons.weights[said].sum()
