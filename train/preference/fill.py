"""Fills the caches before the first step, and proves that what is read from them is what the model would say.

Every process makes its share. Work is cut into the same portions whatever was there before and whoever does them, so
that a training that was stopped while filling ends with the same numbers.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from peft import PeftModel

from ...base.errors import PrefmillError
from ...base.files import remove_leftovers
from ...base.locks import exclusive
from ...base.versions import package_versions
from ...kernels.logprob import TokenStatistics
from ..base_model import base_facts
from ..data import conversation
from ..events import say
from ..job import TrainingJob
from ..manifest import PreferencePlan, read_plan
from .batches import PairBatches
from .cache import ReferenceCache, VisionCache, keyed_folder
from .layout import LAYOUT_VERSION
from .objective import sums
from .scorer import feature_width
from .weights import about

Item = TypeVar("Item")

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Allowed mean difference of a token's log-probability between two ways of computing it; a wrong mask makes it 0.5."""
_IMAGES_AT_ONCE = 8
_SAVE_SECONDS = 60.0


class Filling(Protocol):
    """What is asked of a trainer whose caches are filled."""

    job: TrainingJob
    batches: PairBatches
    accelerator: Any
    args: Any

    @property
    def adapted_model(self) -> PeftModel:
        """The base model in its adapter."""
        ...

    def encode(self, image_inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """What the language model reads of images."""
        ...

    def score(self, batch: dict[str, Any]) -> TokenStatistics:
        """The log-probabilities of a batch of pairs."""
        ...

    def score_rows(self, rows: dict[str, torch.Tensor]) -> torch.Tensor:
        """The summed log-probabilities of ordinary rows."""
        ...


def fill(trainer: Filling, *, reference: bool = True) -> list[str]:
    """Fill what is missing, check it, and return what there is to say about it.

    Without `reference` only the images' features. Raises PrefmillError when the shared layout does not give what two
    separate rows give.
    """
    folder, started = trainer.job.cache, time.monotonic()
    trainer.accelerator.wait_for_everyone()  # the first process knows the model's digest by now
    with _alone(folder, trainer), _undisturbed(trainer):
        notes = [_fill_vision(trainer, folder)]
        if reference:
            notes.append(_fill_reference(trainer, folder))
            _prove(trainer)
        notes += _terms(trainer)
    return [*notes, f"caches ready after {time.monotonic() - started:.1f} s"]


def facts(job: TrainingJob) -> dict[str, Any]:
    """Return what cached numbers depend on besides the pair: another value is another cache."""
    plan = read_plan(job.output, PreferencePlan)
    versions = package_versions()
    return {
        "model": plan.model_key if plan else None,
        "images": job.images.digest(),
        "precision": job.precision,
        **base_facts(job),
        "device": torch.cuda.get_device_name() if job.device == "cuda" else "cpu",
        "engine": f"ZeRO-{job.config.zero_stage}" if job.config.zero_stage else "plain",
        "versions": {name: versions.get(name) for name in ("prefmill", "torch", "transformers")},
    }


def _fill_vision(trainer: Filling, parent: Path) -> str:
    job, batches = trainer.job, trainer.batches
    pairs = [*job.pairs, *job.held_out]
    given = dict.fromkeys(pair.image_id for pair in pairs)
    names = map(batches.negatives.name, pairs) if batches.negatives else ()
    corrupted = list(dict.fromkeys(name for name in names if name not in given))
    images = [*given, *corrupted]
    model: Any = trainer.adapted_model.get_base_model()
    width = feature_width(model) * (2 if job.precision == "bfloat16" else 4)
    needed = sum(batches.image_tokens(image) for image in images) * width
    free = shutil.disk_usage(parent).free
    if needed > job.config.cache_gigabytes * 1e9 or needed > 0.9 * free:
        text = (
            f"features of {len(images)} images are made anew for every step: they take {needed / 1e9:.1f} GB, "
            f"cache_gigabytes is {job.config.cache_gigabytes:g} and the disk has {free / 1e9:.1f} GB left"
        )
        say(job.output, text)
        return text
    cache = VisionCache(_folder(trainer, parent, {"kind": "vision", **facts(job)}))
    for group in (list(given), corrupted):  # apart, so that the given ones are found where others were corrupted
        for portion in _mine(trainer, group, _IMAGES_AT_ONCE, "reading images"):
            if not all(cache.has(image) for image in portion):
                features = trainer.encode(batches.image_inputs(portion))
                for image, feature in zip(portion, features, strict=True):
                    cache.put(image, feature)
    trainer.accelerator.wait_for_everyone()
    batches.vision = cache
    return f"features of {len(images)} images cached ({needed / 1e6:.1f} MB{_mended(trainer, cache.damaged)})"


def _fill_reference(trainer: Filling, parent: Path) -> str:
    job, batches = trainer.job, trainer.batches
    key = {"kind": "reference", "attention": batches.way, "layout": LAYOUT_VERSION, **facts(job)}
    cache = ReferenceCache(_folder(trainer, parent, key), trainer.args.process_index)
    cache.load()
    damaged = cache.damaged if trainer.args.process_index == 0 else 0  # every process has read every file
    saved = time.monotonic()
    pairs, blocks = [*job.pairs, *job.held_out], 3 if batches.negatives else 2
    for portion in _mine(trainer, pairs, job.config.batch_size, "reading answers with the reference model"):
        keys = [key for block in zip(*map(batches.keys, portion), strict=True) for key in block]
        if all(key in cache for key in keys):
            continue
        batch = batches(portion)
        values = sums(trainer.score(batch), batch["segments"].to(trainer.args.device), len(portion), blocks).tolist()
        for key, value in zip(keys, values, strict=True):
            if key not in cache:  # what a training has begun with stays as it is, to the last digit
                cache.put(key, value)
        if time.monotonic() - saved > _SAVE_SECONDS:
            cache.save()
            saved = time.monotonic()
    cache.save()
    trainer.accelerator.wait_for_everyone()
    cache.load()
    batches.reference = cache
    if job.config.nodes > 1 and not all(key in cache for pair in pairs for key in batches.keys(pair)):
        raise PrefmillError(f"{job.cache} is not the same folder on all nodes", "set cache to one that they share")
    mended = _mended(trainer, damaged)
    return f"reference log-probabilities of {len(pairs)} pairs cached (attention: {batches.way}{mended})"


def _terms(trainer: Filling) -> Iterator[str]:
    """Say what terms beyond the loss are, and cost."""
    job, batches = trainer.job, trainer.batches
    if batches.negatives:
        tokens = [batches.tokens(pair) for pair in job.pairs]
        usual, branch = (sum(sum(one.spans) for one in side) for side in (tokens, [one.branch for one in tokens]))
        yield (
            f"the image term reads {branch} tokens an epoch beside the pairs' {usual} (+{branch / usual:.0%}), and "
            f"corrupted images ({job.config.image_negative}) of {len(job.pairs) + len(job.held_out)} pairs"
        )
    if batches.weights:
        yield about([batches.weights[pair.id] for pair in job.pairs])


def _mended(trainer: Filling, damaged: int) -> str:
    """Say that files of a cache were damaged and made again, whichever process found them."""
    total = int(trainer.accelerator.reduce(torch.tensor(damaged, device=trainer.args.device), "sum"))
    if not total:
        return ""
    text = f"; damaged files made again: {total}"
    say(trainer.job.output, f"the cache in {trainer.job.cache} had {total} damaged files: they are made again")
    return text


def _folder(trainer: Filling, parent: Path, facts: dict[str, Any]) -> Path:
    with trainer.accelerator.main_process_first():  # which makes it; two at once would write over each other
        return keyed_folder(parent, facts)


def _prove(trainer: Filling) -> None:
    """Compare the first pair's cached numbers with the same model on two ordinary rows, made by the usual collator."""
    job, batches = trainer.job, trainer.batches
    assert batches.reference is not None
    pair = job.pairs[0]
    separate, lengths = [], []
    for image_id in [pair.image_id, *([batches.negatives.name(pair)] if batches.negatives else [])]:
        rows = job.collator(
            [
                {
                    "images": [batches.image(image_id)],
                    "prompt": conversation(pair.instruction, job.config.system_prompt),
                    "chosen": [{"role": "assistant", "content": pair.chosen}],
                    "rejected": [{"role": "assistant", "content": pair.rejected}],
                }
            ]
        )
        separate += trainer.score_rows(rows).tolist()
        lengths += rows["completion_mask"].sum(1).tolist()
    found = [batches.reference.get(key) for key in batches.keys(pair)]
    # with the corrupted image, where there is one, the chosen answer alone is scored
    sides = ("chosen", "rejected", "chosen")[: len(found)]
    for side, cached, alone, length in zip(sides, found, separate, lengths, strict=False):
        if not abs(cached - alone) <= TOLERANCE[job.precision] * length:
            raise PrefmillError(
                f"the {side} answer of pair {pair.id} has log-probability {cached:.4f} after the shared prompt or in "
                f"{job.cache}, and {alone:.4f} in a row of its own",
                "train with backend=trl, and report the model",
            )


def _mine(trainer: Filling, items: Sequence[Item], size: int, what: str) -> Iterator[list[Item]]:
    """Yield this process's portions of the items, and say now and then how far it is."""
    said = time.monotonic()
    for number, start in enumerate(range(0, len(items), size)):
        if number % trainer.args.world_size == trainer.args.process_index:
            if time.monotonic() - said > 2:
                said = time.monotonic()
                say(trainer.job.output, f"{what}: {start} of {len(items)}")
            yield list(items[start : start + size])


@contextlib.contextmanager
def _alone(folder: Path, trainer: Filling) -> Iterator[None]:
    """Keep other trainings out of a shared cache while this one fills it."""
    first = trainer.args.process_index == 0
    with contextlib.ExitStack() as stack:
        if first:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive(folder / ".lock"))
            except OSError as error:
                raise PrefmillError(f"cannot write to {folder}: {error.strerror}", "set cache to a folder") from error
            remove_leftovers(folder)
        trainer.accelerator.wait_for_everyone()
        yield
        trainer.accelerator.wait_for_everyone()


@contextlib.contextmanager
def _undisturbed(trainer: Filling) -> Iterator[None]:
    model: Any = trainer.adapted_model
    model.eval()
    with torch.no_grad(), model.disable_adapter():
        yield
    model.train()
