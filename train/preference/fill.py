"""Fills the caches before the first step, and proves that what is read from them is what the model would say.

Every process makes its share. Work is cut into the same portions whatever was there before and whoever does them, so
that a training that was stopped while filling ends with the same numbers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from peft import PeftModel

from ...base.errors import PrefmillError
from ...base.files import remove_leftovers, write_text
from ...base.locks import exclusive
from ...base.versions import package_versions
from ...kernels.logprob import TokenStatistics
from ..data import conversation
from ..events import STATUS
from ..job import TrainingJob
from ..manifest import read_plan
from .batches import PairBatches
from .cache import ReferenceCache, VisionCache, keyed_folder
from .layout import LAYOUT_VERSION
from .objective import sums
from .scorer import feature_width

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


def fill(trainer: Filling) -> list[str]:
    """Fill what is missing, check it, and return what there is to say about it.

    Raises PrefmillError when the shared layout does not give what two separate rows give.
    """
    folder, started = trainer.job.cache, time.monotonic()
    trainer.accelerator.wait_for_everyone()  # the first process knows the model's digest by now
    with _alone(folder, trainer), _undisturbed(trainer):
        notes = [_fill_vision(trainer, folder), _fill_reference(trainer, folder)]
        _prove(trainer)
    return [*notes, f"caches ready after {time.monotonic() - started:.1f} s"]


def facts(job: TrainingJob) -> dict[str, Any]:
    """Return what cached numbers depend on besides the pair: another value is another cache."""
    plan = read_plan(job.output)
    versions = package_versions()
    return {
        "model": plan.model_key if plan else None,
        "images": job.images.digest(),
        "precision": job.precision,
        "device": torch.cuda.get_device_name() if job.device == "cuda" else "cpu",
        "engine": f"ZeRO-{job.config.zero_stage}" if job.config.zero_stage else "plain",
        "versions": {name: versions.get(name) for name in ("prefmill", "torch", "transformers")},
    }


def say(job: TrainingJob, text: str) -> None:
    """Tell the user through the launcher; the first process alone does."""
    if os.environ.get("RANK", "0") == "0":
        write_text(job.output / STATUS, text)


def _fill_vision(trainer: Filling, parent: Path) -> str:
    job, batches = trainer.job, trainer.batches
    images = list(dict.fromkeys(pair.image_id for pair in job.pairs))
    model: Any = trainer.adapted_model.get_base_model()
    width = feature_width(model) * (2 if job.precision == "bfloat16" else 4)
    needed = sum(batches.image_tokens(image) for image in images) * width
    free = shutil.disk_usage(parent).free
    if needed > job.config.cache_gigabytes * 1e9 or needed > 0.9 * free:
        text = (
            f"features of {len(images)} images are made anew for every step: they take {needed / 1e9:.1f} GB, "
            f"cache_gigabytes is {job.config.cache_gigabytes:g} and the disk has {free / 1e9:.1f} GB left"
        )
        say(job, text)
        return text
    cache = VisionCache(_folder(trainer, parent, {"kind": "vision", **facts(job)}))
    for portion in _mine(trainer, images, _IMAGES_AT_ONCE, "reading images"):
        if not all(cache.has(image) for image in portion):
            features = trainer.encode(batches.image_inputs(portion))
            for image, feature in zip(portion, features, strict=True):
                cache.put(image, feature)
    trainer.accelerator.wait_for_everyone()
    batches.vision = cache
    return f"features of {len(images)} images cached ({needed / 1e6:.1f} MB)"


def _fill_reference(trainer: Filling, parent: Path) -> str:
    job, batches = trainer.job, trainer.batches
    key = {"kind": "reference", "attention": batches.way, "layout": LAYOUT_VERSION, **facts(job)}
    cache = ReferenceCache(_folder(trainer, parent, key), trainer.args.process_index)
    cache.load()
    saved = time.monotonic()
    for portion in _mine(trainer, job.pairs, job.config.batch_size, "reading answers with the reference model"):
        if all(batches.key(pair) in cache for pair in portion):
            continue
        batch = batches(portion)
        values = sums(trainer.score(batch), batch["segments"].to(trainer.args.device), len(portion)).tolist()
        for number, pair in enumerate(portion):
            cache.put(batches.key(pair), values[number], values[len(portion) + number])
        if time.monotonic() - saved > _SAVE_SECONDS:
            cache.save()
            saved = time.monotonic()
    cache.save()
    trainer.accelerator.wait_for_everyone()
    cache.load()
    batches.reference = cache
    return f"reference log-probabilities of {len(job.pairs)} pairs cached (attention: {batches.way})"


def _folder(trainer: Filling, parent: Path, facts: dict[str, Any]) -> Path:
    with trainer.accelerator.main_process_first():  # which makes it; two at once would write over each other
        return keyed_folder(parent, facts)


def _prove(trainer: Filling) -> None:
    """Compare the first pair's cached numbers with the same model on two ordinary rows, made by the usual collator."""
    job, batches = trainer.job, trainer.batches
    assert batches.reference is not None
    pair = job.pairs[0]
    rows = job.collator(
        [
            {
                "images": [job.images.load(pair.image_id)],
                "prompt": conversation(pair.instruction, job.config.system_prompt),
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
        ]
    )
    separate = trainer.score_rows(rows).tolist()
    lengths = rows["completion_mask"].sum(1).tolist()
    for side, cached, alone, length in zip(
        ("chosen", "rejected"), batches.reference.get(batches.key(pair)), separate, lengths, strict=True
    ):
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
                say(trainer.job, f"{what}: {start} of {len(items)}")
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
