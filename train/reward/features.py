"""Fills the cache of what the frozen layers say of the images, before the first step. Every process makes its share."""

from __future__ import annotations

import math
import shutil
import time
from contextlib import ExitStack
from typing import Any, Protocol

import torch

from ...base.errors import PrefmillError
from ...base.files import remove_leftovers
from ...base.locks import exclusive
from ...base.versions import package_versions
from ..events import say
from ..preference.cache import VisionCache, keyed_folder
from .batches import RewardBatches
from .job import RewardJob
from .network import RewardNetwork

_IMAGES_AT_ONCE = 16


class FeatureFilling(Protocol):
    """What is asked of a trainer whose features are cached."""

    job: RewardJob
    batches: RewardBatches
    network: RewardNetwork
    accelerator: Any
    args: Any

    def read(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels to features, as a step makes them."""
        ...


def fill_features(trainer: FeatureFilling) -> str:
    """Cache the features of all images where they fit, and return what there is to say about it.

    Raises PrefmillError where the cache's folder cannot be written.
    """
    job = trainer.job
    images = list(
        dict.fromkeys(image for one in [*job.pairs, *job.held_out] for image in (one.chosen_id, one.rejected_id))
    )
    needed = len(images) * math.prod(trainer.network.feature_shape) * (2 if job.precision == "bfloat16" else 4)
    try:
        job.cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(job.cache).free
    except OSError as error:
        raise PrefmillError(f"cannot write to {job.cache}: {error.strerror}", "set cache to a folder") from error
    if needed > job.config.cache_gigabytes * 1e9 or needed > 0.9 * free:
        text = (
            f"features of {len(images)} images are made anew for every step: they take {needed / 1e9:.1f} GB, "
            f"cache_gigabytes is {job.config.cache_gigabytes:g} and the disk has {free / 1e9:.1f} GB left"
        )
        say(job.output, text)
        return text
    with ExitStack() as alone:
        if trainer.args.process_index == 0:
            alone.enter_context(exclusive(job.cache / ".lock"))
            remove_leftovers(job.cache)
        with trainer.accelerator.main_process_first():  # which makes it; two at once would write over each other
            cache = VisionCache(keyed_folder(job.cache, _facts(trainer)))
        made = _fill(trainer, cache, images)
        trainer.accelerator.wait_for_everyone()
    trainer.batches.cache = cache
    total = int(trainer.accelerator.reduce(torch.tensor(made, device=trainer.args.device), "sum"))
    return (
        f"features of {len(images)} images after {trainer.network.depth} frozen layers cached "
        f"({needed / 1e6:.1f} MB, {total} of them made now)"
    )


def _fill(trainer: FeatureFilling, cache: VisionCache, images: list[str]) -> int:
    """Make this process's portions, cut the same whatever was there before, and return how many images were made."""
    made, said = 0, time.monotonic()
    for number, start in enumerate(range(0, len(images), _IMAGES_AT_ONCE)):
        if number % trainer.args.world_size != trainer.args.process_index:
            continue
        if time.monotonic() - said > 2:
            said = time.monotonic()
            say(trainer.job.output, f"reading images: {start} of {len(images)}")
        portion = images[start : start + _IMAGES_AT_ONCE]
        if not [image for image in portion if not cache.has(image)]:
            continue
        made += len(portion)
        for image, features in zip(portion, trainer.read(trainer.batches.pixels(portion)), strict=True):
            cache.put(image, features)
    return made


def _facts(trainer: FeatureFilling) -> dict[str, Any]:
    """What features depend on besides the image: another value is another folder."""
    job, network, versions = trainer.job, trainer.network, package_versions()
    return {
        "kind": "frozen layers of an image reward" if network.frozen_share else "pixels of an image reward",
        "model": job.model_key,
        "depth": network.depth,
        "images": job.images.digest(),
        "precision": job.precision,
        "device": torch.cuda.get_device_name() if job.device == "cuda" else "cpu",
        "engine": f"ZeRO-{job.config.zero_stage}" if job.config.zero_stage else "plain",
        "versions": {name: versions.get(name) for name in ("prefmill", "torch", "transformers")},
    }
