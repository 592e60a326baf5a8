"""Model FLOPs utilisation: what a training's pairs need to be computed, as a share of what its devices could compute.

What is needed is counted once and alike for every backend and setting (`flops.needed_flops`): work that a way of
training does beyond it, twice the prompt or a forward pass again for checkpointing, lowers the share. The peak is that
of products in bfloat16, whatever the training's precision.
"""

from __future__ import annotations

from dataclasses import dataclass

from .accelerators import accelerator_of
from .flops import PairLengths, needed_flops
from .job import TrainingJob
from .preference.layout import split
from .shape import shape_of_folder

SAMPLE = 2000
"""Pairs, evenly spaced, that stand for all where there are more: tokenising takes a millisecond each."""


@dataclass(frozen=True)
class UtilisationMeter:
    """`pair_flops` are needed for a pair in the mean; `peak` floating-point operations per second of all devices."""

    pair_flops: float
    peak: float

    def __call__(self, pairs_per_second: float) -> float:
        """Return the share of the peak that pairs per second, over all processes, need."""
        return self.pair_flops * pairs_per_second / self.peak


def utilisation_meter(job: TrainingJob, device_name: str, processes: int) -> UtilisationMeter | None:
    """Return the meter of a training on devices that torch calls so, None where their peak is not known.

    A corrupted image that a pair's chosen answer is read with once more, see image_weight, counts as well.
    """
    accelerator = accelerator_of(device_name)
    if accelerator is None:
        return None
    sample = job.pairs[:: -(-len(job.pairs) // SAMPLE)]
    sizes = job.images.sizes()
    system = job.config.system_prompt
    # without what their images cost, which is not needed for a step
    lengths = [PairLengths(*split(job.collator, pair, sizes[pair.image_id], system).spans) for pair in sample]
    if job.config.image_weight:
        lengths += [PairLengths(pair.prompt, pair.chosen, 0) for pair in lengths]
    needed = needed_flops(shape_of_folder(job.model_folder), lengths, job.config.lora_rank)
    return UtilisationMeter(needed / len(sample), accelerator.peak * processes)
