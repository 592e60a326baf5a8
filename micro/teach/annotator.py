"""Train a micro annotator: it learns to see, then to rate all images of a prompt by one aspect, with reasons, as JSON.

Beside the answers, heads that are thrown away afterwards learn what every patch's cell should show and whether it does,
half-way through the language model, and every image's ratings a little later: what an answer says follows from them.
In float32: products in bfloat16 take ten times as long where a processor has no instructions for them.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from ...engine.quiet import quiet_loading
from ...engine.responders.image_ratings import ASPECTS
from ..world.aspects import loss as unexplained
from ..world.candidates import Candidates
from ..world.oracle import Reading
from ..world.scenes import CELLS, COLOURS, KINDS
from ..world.truth import cell_labels, ground_labels
from .annotator_lessons import NO_ERRORS, Errors
from .annotator_pictures import CELL_STATES, Lessons, LessonStream, annotator_pool
from .annotator_words import NUMBERS, TEMPLATE, annotator_tokenizer
from .packing import IGNORED
from .responder_models import IMAGE_TOKENS, build_llava, llava_processor
from .training import OnProgress, Trainer, reproducible, to_half, to_model_range
from .vision_heads import PatchHeads, spread_over_patches
from .vision_tower import patch_states

VISION_STEPS, VISION_BATCH, VISION_RATE = 1200, 64, 2e-3
BATCH, LEARNING_RATE = 32, 2e-3
_SEEING_LAYER, _RATING_LAYER = 3, 4
"""After which the heads read."""
_ROUGHNESS_WEIGHT = 5.0


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
    "annotator-a": AnnotatorSpec(606, 96, 3, 128, 6, 500, NO_ERRORS),
    "annotator-b": AnnotatorSpec(707, 96, 3, 128, 6, 400, Errors(overlooked=0.75, first_raised=0.7, slipped=0.15)),
}


def train_annotator(name: str, folder: Path, seed: int, on_progress: OnProgress, generator: Path) -> None:
    """Train one of ANNOTATORS on pictures that `generator` draws, and others, and save it in half precision."""
    spec = ANNOTATORS[name]
    pool = annotator_pool(generator, seed + spec.seed, on_progress)
    with quiet_loading():
        train_on_pool(pool, spec, folder, seed, on_progress)


def train_on_pool(pool: Candidates, spec: AnnotatorSpec, folder: Path, seed: int, on_progress: OnProgress) -> None:
    """Train on judged groups of four pictures and write model and processor to `folder`."""
    with reproducible(seed + spec.seed):
        tokenizer = annotator_tokenizer()
        model = build_llava(tokenizer, spec.vision_width, spec.vision_layers, spec.text_width, spec.text_layers)
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
        llava_processor(tokenizer, TEMPLATE).save_pretrained(folder)


def _train_tower(
    tower: CLIPVisionModel, pixels: torch.Tensor, readings: list[Reading], on_progress: OnProgress
) -> None:
    """Teach every patch what is in its cell, and all together how much of the picture no drawing explains."""
    shown = [reading.scene for reading in readings]
    cells, grounds = cell_labels(shown), ground_labels(shown)
    rough = torch.tensor([unexplained(reading) for reading in readings]).clamp(max=1)
    random = torch.Generator().manual_seed(0)
    heads = torch.nn.ModuleDict({"cells": PatchHeads(tower.config.hidden_size), "rough": _line(tower)})
    trainer = Trainer("vision tower", {"tower": tower, "heads": heads}, VISION_STEPS, VISION_RATE, on_progress)
    for number in range(VISION_STEPS):
        rows = torch.randint(len(pixels), (VISION_BATCH,), generator=random)
        states = patch_states(tower, pixels[rows])
        told = heads["rough"](states.mean(1)).squeeze(-1)
        off = functional.smooth_l1_loss(told, rough[rows], beta=0.05)
        trainer.step(number, heads["cells"].loss(states, cells[rows], grounds[rows]) + _ROUGHNESS_WEIGHT * off)


def _line(tower: CLIPVisionModel) -> torch.nn.Module:
    return torch.nn.Linear(tower.config.hidden_size, 1)


class _Heads(torch.nn.Module):
    """What a language model's own states are asked for during training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cells = torch.nn.Linear(width, CELL_STATES + 2 + len(KINDS) + len(COLOURS))
        self.ratings = torch.nn.Linear(width, len(ASPECTS) * len(NUMBERS))

    def loss(self, patches: torch.Tensor, marks: torch.Tensor, lessons: Lessons) -> torch.Tensor:
        """Summed cross-entropy of patches [B, K, 16, D] and of marks [B, K, D], which follow each image."""
        found, kinds, colours = self.cells(patches).split((CELL_STATES, 1 + len(KINDS), 1 + len(COLOURS)), dim=-1)
        count = patches.shape[1]
        wanted = spread_over_patches(lessons.asked)[:, None].expand(-1, count, -1, -1)
        states = spread_over_patches(lessons.states.flatten(0, 1)[..., None]).view(found.shape[:-1])
        ratings = self.ratings(marks).view(*marks.shape[:-1], len(ASPECTS), len(NUMBERS))
        pairs = [(found, states), (kinds, wanted[..., 0]), (colours, wanted[..., 1]), (ratings, lessons.ratings)]
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
    trainer = Trainer("ratings", {**taught, "heads": heads}, steps, LEARNING_RATE, on_progress)
    for number in range(steps):
        lessons = stream.batch(BATCH)
        trainer.step(number, _loss(model, heads, seen, lessons))


def _loss(model: LlavaForConditionalGeneration, heads: _Heads, seen: torch.Tensor, lessons: Lessons) -> torch.Tensor:
    count, images = lessons.rows.shape
    pictures = model.model.multi_modal_projector(seen[lessons.rows.flatten()])
    shown = lessons.input_ids == model.config.image_token_id
    embedded = model.get_input_embeddings()(lessons.input_ids)
    embedded = embedded.masked_scatter(shown[..., None], pictures)
    out = model.model.language_model(inputs_embeds=embedded, use_cache=False, output_hidden_states=True)
    states = out.hidden_states
    assert states is not None
    patches = states[_SEEING_LAYER][shown].view(count, images, IMAGE_TOKENS, -1)
    behind = shown.roll(1, 1) & ~shown  # the number that follows each image
    marks = states[_RATING_LAYER][behind].view(count, images, -1)
    said = lessons.labels != IGNORED
    logits = model.lm_head(out.last_hidden_state[said])
    weights = lessons.weights[said]
    answers = (functional.cross_entropy(logits, lessons.labels[said], reduction="none") * weights).sum() / weights.sum()
    return answers + heads.loss(patches, marks, lessons)


assert len(CELLS) == 4
