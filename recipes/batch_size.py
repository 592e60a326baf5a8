"""`generate.batch_size=auto`: the number of prompts that the memory holds, settled once, where a run begins.

Rows depend in their last bits on the composition of batches, and a continued run must have the batches of its
beginning. So the number goes into run.yaml and the manifest, and a run that has one keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base.errors import PrefmillError
from ..pipeline.store import Run
from .recipe import BaseRecipe, Recipe

if TYPE_CHECKING:
    import torch

    from ..engine.sd3.memory import MemoryEstimate

MOST_IMAGES = 64
"""In one batch: what a step is declared for. A device is busy long before."""


def settle_batch_size(run: Run, recipe: BaseRecipe, free: int | None = None) -> tuple[BaseRecipe, str]:
    """The recipe with a number where it says auto, and why it is this one; the recipe as it is where it says none.

    `free`: bytes of the device's memory, by default what is free now. Raises PrefmillError where not even one prompt
    fits, and where the checkpoint's configs cannot be read.
    """
    if not isinstance(recipe, Recipe) or recipe.generate.batch_size != "auto":
        return recipe, ""
    begun = run.manifest("candidates").get("config", {}).get("batch_size")
    if isinstance(begun, int):
        return _with(recipe, begun), ""
    from ..engine.device import resolve_device
    from ..engine.sd3.memory import free_bytes

    config, engine = recipe.generate, recipe.engine.of_stage("generate")
    device = resolve_device(engine)
    free = free_bytes(device) if free is None else free
    per_prompt = len(config.guidance)
    estimate = _estimate(recipe, device)
    images = estimate.images(free, config.decode_batch, max(MOST_IMAGES, per_prompt))
    if images < per_prompt:
        needed = estimate.peak(per_prompt, config.decode_batch)
        raise PrefmillError(
            f"generate.batch_size=auto: one prompt's {per_prompt} images take about {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free on {device}",
            "--set generate.decode_batch=1, --set generate.t5=host, or a smaller generate.width and generate.height",
        )
    chosen = images // per_prompt
    taken = estimate.peak(chosen * per_prompt, config.decode_batch)
    why = f"generate.batch_size is {chosen}: about {taken / 1e9:.2g} GB of the {free / 1e9:.2g} GB that are free"
    return _with(recipe, chosen), f"{why} on {device}"


def planned_batch_size(run: Run, recipe: BaseRecipe) -> tuple[BaseRecipe, str]:
    """As `settle_batch_size`, but nothing is downloaded for a plan: it then has one prompt at a time, and says so."""
    if not isinstance(recipe, Recipe) or recipe.generate.batch_size != "auto":
        return recipe, ""
    from ..engine.sources import is_here

    if not is_here(recipe.generate.model):
        return _with(recipe, 1), "generate.batch_size is settled when the run begins, with the checkpoint's configs"
    return settle_batch_size(run, recipe)


def _with(recipe: Recipe, batch_size: int) -> Recipe:
    return recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"batch_size": batch_size})})


def _estimate(recipe: Recipe, device: torch.device) -> MemoryEstimate:
    from ..engine.device import resolve_weights_dtype
    from ..engine.sd3.memory import estimate_memory
    from ..engine.sources import resolve_checkpoint

    config = recipe.generate
    return estimate_memory(
        resolve_checkpoint(config.model),
        resolve_weights_dtype(recipe.engine.of_stage("generate"), device),
        t5_tokens=config.t5_tokens,
        width=config.width,
        height=config.height,
        t5_stays=config.t5 == "device",
    )
