"""What a training reads before any weight: the model's processor, and the run's pairs that fit into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..base.errors import PrefmillError
from ..engine.checkpoint import read_config
from ..pipeline.records import Pair
from .collate import PairCollator, split_trainable
from .data import RunImages, hold_out, load_pairs
from .nodes import require_work
from .settings import DPOTrainingConfig


@dataclass(frozen=True)
class TrainingInputs:
    """The pairs to train on, those to evaluate, and the ids of the others by reason."""

    collator: PairCollator
    images: RunImages
    pairs: list[Pair]
    held_out: list[Pair]
    excluded: dict[str, list[str]]


def read_inputs(config: DPOTrainingConfig, run: Path, model_folder: Path) -> TrainingInputs:
    """Return what a training on a run's pairs reads. Of the model's folder neither weights nor their headers are read.

    Raises PrefmillError for a folder without a processor of images and text, and for a run without enough pairs.
    """
    from ..engine.processors import check_tokenizer, load_processor  # and with it transformers

    try:
        processor = load_processor(model_folder)
        collator = PairCollator(processor)
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise PrefmillError(
            f"{config.model} has no image-and-text processor ({str(error).splitlines()[0]})",
            "set model to a LLaVA checkpoint, such as llava-hf/llava-1.5-7b-hf",
        ) from error
    check_tokenizer(processor, model_folder)
    stated = read_config(model_folder)
    text = {**stated, **stated.get("text_config", {})}  # some published configs are flat
    context = text.get("max_position_embeddings", config.max_tokens)
    images = RunImages(run)
    given = load_pairs(run, margins=config.margin_weight != "none")
    fitting, excluded = split_trainable(
        given, images.sizes(), collator, min(config.max_tokens, context), config.system_prompt
    )
    pairs, held_out = hold_out(fitting, images.prompts(), config.eval_share)
    require_work(config, len(pairs), config.batch_size)
    return TrainingInputs(collator, images, pairs, held_out, excluded)
