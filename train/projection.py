"""What a training would take, before anything is loaded: steps, tokens, operations, memory, hours and cost.

Lengths are those of the run's own pairs, read by the model's own processor; the model's shape is read off its config.
Everything else is arithmetic, with the assumptions that come with it: a projection, no measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..base.errors import PrefmillError
from ..engine.sources import local_checkpoint
from ..pipeline.records import Pair
from .accelerators import Accelerator
from .flops import LADDER, PairLengths, batch_tokens, training_flops
from .inputs import TrainingInputs, read_inputs
from .memory import TrainingMemory, training_memory
from .preference.backend import unsupported
from .preference.layout import split
from .settings import DPOTrainingConfig
from .shape import ModelShape, shape_of_folder

UTILISATION = 0.40
"""Assumed share of the GPU's peak that is reached."""


@dataclass(frozen=True)
class ProjectedWay:
    """A rung of train.flops.LADDER, or the last one with mDPO's image term as well.

    `tokens` are those that the policy reads, padding included; `hours` of all devices together, and their cost, are
    None where nobody named a GPU, or a price.
    """

    name: str
    says: str
    tokens: int
    flops: float
    hours: float | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Projection:
    """What a training would take. `steps_per_epoch` and `pairs_per_step` over all processes; `vision_cache` in bytes,
    0 where none is kept."""

    backend: str
    precision: str
    pairs: int
    held_out: int
    excluded: dict[str, int]
    epochs: float
    steps: int
    steps_per_epoch: int
    pairs_per_step: int
    processes: int
    longest_batch: int
    ways: tuple[ProjectedWay, ...]
    memory: TrainingMemory
    checkpointing: bool
    vision_cache: float
    gpu: Accelerator | None
    assumptions: tuple[str, ...]

    @property
    def chosen(self) -> ProjectedWay:
        """The way that the settings ask for."""
        return self.ways[0 if self.backend == "trl" else -1]

    def to_json(self) -> dict[str, Any]:
        """Return all of it for json, the memory's sum included."""
        memory = asdict(self.memory) | {"total": self.memory.total(checkpointing=self.checkpointing)}
        gpu = {name: getattr(self.gpu, name) for name in ("name", "peak", "memory")} if self.gpu else None
        return asdict(self) | {
            "chosen": self.chosen.name,
            "memory": memory,
            "gpu": gpu,
            "utilisation": UTILISATION,
        }


def project(run: Path, config: DPOTrainingConfig, gpu: Accelerator | None = None) -> Projection:
    """Return what a training on a run's pairs would take. Reads configs, processor and pairs; writes nothing.

    Raises PrefmillError for what stops a training before its model is loaded, and for a hub id of which not even the
    config is here.
    """
    folder = local_checkpoint(config.model)
    instead = unsupported(config, folder) if config.backend == "shared" else None
    if instead:
        config = config.model_copy(update={"backend": "trl"})
    inputs = read_inputs(config, run, folder)
    try:
        shape = shape_of_folder(folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:  # the library's own, of many kinds
        raise PrefmillError(
            f"the config of {config.model} does not describe a vision-language model "
            f"({next(iter(str(error).splitlines()), type(error).__name__)})",
            "set model to a checkpoint that transformers' AutoModelForImageTextToText knows",
        ) from error
    lengths = list(pair_lengths(inputs, inputs.pairs, shape, config.system_prompt))
    branches = [branch(pair, number) for number, pair in enumerate(lengths)] if config.image_weight else []
    precision = config.precision
    if precision == "auto":
        precision = "float32" if config.device == "cpu" and gpu is None else "bfloat16"
    number, size = (2 if precision == "bfloat16" else 4), config.batch_size
    world = config.processes * config.nodes
    per_epoch = steps_per_epoch(len(lengths), config)
    steps = config.max_steps or config.epochs * per_epoch
    longest = _longest_batch(lengths, branches, config)
    cached = _feature_numbers(inputs, shape, config) * number if config.backend == "shared" else 0
    fits = cached <= config.cache_gigabytes * 1e9
    return Projection(
        backend=config.backend,
        precision=precision,
        pairs=len(lengths),
        held_out=len(inputs.held_out),
        excluded={reason: len(ids) for reason, ids in inputs.excluded.items()},
        epochs=steps / per_epoch,
        steps=steps,
        steps_per_epoch=per_epoch,
        pairs_per_step=size * config.accumulation * world,
        processes=world,
        longest_batch=longest,
        ways=tuple(_ways(shape, lengths, branches, config, steps / per_epoch, gpu)),
        memory=training_memory(shape, config, tokens=longest, number=number),
        checkpointing=config.gradient_checkpointing,
        vision_cache=cached if fits else 0,
        gpu=gpu,
        assumptions=tuple(_assumptions(config, precision, gpu, cached, fits, len(inputs.held_out), instead)),
    )


def pair_lengths(
    inputs: TrainingInputs, pairs: Sequence[Pair], shape: ModelShape, system_prompt: str | None
) -> Iterator[PairLengths]:
    """Yield the lengths of pairs, their images as the processor cuts blank ones of the same sizes."""
    sizes, cut = inputs.images.sizes(), {}
    for pair in pairs:
        size = sizes[pair.image_id]
        if size not in cut:
            cut[size] = _patches(inputs.collator.processor, shape, size)
        spans = split(inputs.collator, pair, size, system_prompt).spans
        yield PairLengths(*spans, pair.image_id, *cut[size])


def steps_per_epoch(pairs: int, config: DPOTrainingConfig) -> int:
    """Return how many optimizer steps transformers' trainer makes of so many pairs; the last may have fewer."""
    batches = math.ceil(math.ceil(pairs / config.batch_size) / (config.processes * config.nodes))
    return math.ceil(batches / config.accumulation)


def branch(pair: PairLengths, number: int) -> PairLengths:
    """Return what mDPO's image term reads besides a pair: prompt and chosen answer with an image of the pair's own."""
    return PairLengths(pair.prompt, pair.chosen, 0, f"corrupted {number}", pair.patches, pair.tiles)


def _patches(processor: Any, shape: ModelShape, size: tuple[int, int]) -> tuple[int, int]:
    """Return into how many patches and tiles a processor cuts an image. Some make rows of patches, others of tiles."""
    made = processor(images=[[Image.new("RGB", size)]], text=[processor.image_token], return_tensors="pt")
    pixels = made["pixel_values"]
    tiles = math.prod(pixels.shape[:-3]) if pixels.ndim > 3 else 1
    return pixels.numel() // (shape.channels * shape.patch**2 * shape.frames), tiles


def _ways(
    shape: ModelShape,
    lengths: Sequence[PairLengths],
    branches: Sequence[PairLengths],
    config: DPOTrainingConfig,
    epochs: float,
    gpu: Accelerator | None,
) -> Iterator[ProjectedWay]:
    settings: dict[str, Any] = {
        "rank": config.lora_rank,
        "epochs": epochs,
        "checkpointing": config.gradient_checkpointing,
        "theirs_on_answers": gpu is not None or config.device != "cpu",  # where there is Triton
    }
    size = config.batch_size
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    tokens, flops = 0, 0.0
    for rung in LADDER.values():
        tokens = sum(batch_tokens(batch, rung) for batch in batches)
        flops = training_flops(shape, lengths, rung, batch_size=size, **settings).total
        yield _priced(rung.name, rung.says, tokens * epochs, flops, config, gpu)
    if branches:
        tokens += batch_tokens(branches, LADDER["shared"])
        flops += training_flops(shape, branches, LADDER["shared"], **settings).total
        yield _priced(
            "image", "+ the image term: one more answer and image a pair", tokens * epochs, flops, config, gpu
        )


def _priced(
    name: str, says: str, tokens: float, flops: float, config: DPOTrainingConfig, gpu: Accelerator | None
) -> ProjectedWay:
    hours = flops / (gpu.peak * UTILISATION) / 3600 if gpu else None
    cost = None if hours is None or config.dollars_per_hour is None else hours * config.dollars_per_hour
    return ProjectedWay(name, says, round(tokens), flops, hours, cost)


def _longest_batch(lengths: Sequence[PairLengths], branches: Sequence[PairLengths], config: DPOTrainingConfig) -> int:
    """Return the tokens of the longest micro-batch that the pairs' order can bring about."""
    if config.backend == "trl":
        size = min(config.batch_size, len(lengths))
        return batch_tokens(sorted(lengths, key=lambda pair: pair.longer)[-size:], LADDER["trl"])
    further = [pair.shared for pair in branches] or [0] * len(lengths)
    tokens = sorted(pair.shared + more for pair, more in zip(lengths, further, strict=True))
    return sum(tokens[-config.batch_size :])


def _feature_numbers(inputs: TrainingInputs, shape: ModelShape, config: DPOTrainingConfig) -> int:
    """Return how many numbers the features of all images are, held out and corrupted ones too."""
    sizes, pairs, collator = inputs.images.sizes(), [*inputs.pairs, *inputs.held_out], inputs.collator
    images = [*{pair.image_id for pair in pairs}, *(pair.image_id for pair in pairs if config.image_weight)]
    return (
        sum(collator.image_ids(sizes[image]).count(collator.image_token_id) for image in images) * shape.feature_width
    )


def _assumptions(
    config: DPOTrainingConfig,
    precision: str,
    gpu: Accelerator | None,
    cached: float,
    fits: bool,
    held_out: int,
    instead: str | None,
) -> Iterator[str]:
    yield "a projection from the model's shape and the pairs' lengths; nothing was measured"
    if instead:
        yield f"trained by TRL instead of backend=shared: {instead}"
    if gpu:
        yield f"{UTILISATION:.0%} of {gpu.name}'s peak of {gpu.peak / 1e12:g} TFLOP/s in bfloat16 (MFU assumed)"
        if precision == "float32":
            yield "float32 is several times slower than the bfloat16 that the hours are for"
        if config.dollars_per_hour is None:
            yield "no cost without a price: --set dollars_per_hour=PRICE"
    yield "activations by 34 bytes per layer, token and unit of width in half precision; buffers are not counted"
    yield "padding is counted in the run's order of pairs; training shuffles them"
    yield "where there is a cache, image features and the reference are computed once and not for every epoch"
    if config.backend == "shared" and not fits:
        yield (
            f"image features take {cached / 1e9:.1f} GB and cache_gigabytes is {config.cache_gigabytes:g}: they would "
            "be made anew for every step, which `shared` does not count here"
        )
    if config.base_bits:
        yield "turning four bits back into numbers takes time that is not counted"
    if held_out:
        yield f"evaluating the {held_out} pairs held out is not counted"
