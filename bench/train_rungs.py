"""The rungs between TRL's trainer and ours: each takes one saving more, so that each can be measured by itself.

    trl        two padded rows a pair, image features and reference made anew for every step, the head on every row
    prefix     a prompt is read once for both of its answers
    vision     + image features from the cache
    reference  + the reference's log-probabilities from the cache
    answers    + the head on rows that predict an answer's token alone
    shared     + the pairs of a micro-batch in one row without padding: backend=shared as it is

All of them train the same thing. The middle ones are the product with a part switched off, and exist nowhere else.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ..train.job import TrainingJob
from ..train.preference.fill import fill
from ..train.preference.objective import sums
from ..train.preference.trainer import SharedTrainer, build_trainer

RUNGS = ("trl", "prefix", "vision", "reference", "answers", "shared")


class _RungTrainer(SharedTrainer):
    online_reference: ClassVar[bool] = False
    every_row: ClassVar[bool] = True

    def fill_caches(self) -> list[str]:
        """Fill those that this rung has."""
        self.batches.packed = False
        return fill(self, reference=not self.online_reference)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the same loss, at the price of this rung."""
        if self.every_row:
            inputs = _with_every_row(inputs)
        if self.online_reference:
            with torch.no_grad(), self.adapted_model.disable_adapter():
                statistics = self.score(inputs)
            pairs = len(inputs["pairs"])
            inputs = {**inputs, "reference": sums(statistics, inputs["segments"], pairs)}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class _OnlineReference(_RungTrainer):
    online_reference = True


class _CachedReference(_RungTrainer):
    pass


class _AnswerRows(_RungTrainer):
    every_row = False


_CLASSES = {
    "prefix": _OnlineReference,
    "vision": _OnlineReference,
    "reference": _CachedReference,
    "answers": _AnswerRows,
    "shared": SharedTrainer,
}


def build_rung(rung: str, job: TrainingJob) -> Any:
    """Return the trainer of a rung. A job of the rung `prefix` has no room for image features (cache_gigabytes=0)."""
    if rung == "trl":
        from ..train.trl_backend import build_trainer as build_theirs

        return build_theirs(job)
    return build_trainer(job, _CLASSES[rung])


def _with_every_row(inputs: dict[str, Any]) -> dict[str, Any]:
    """Have the head read the other rows, too: they come first, and belong to no segment."""
    model = inputs["model"]
    rows = model["answer_rows"]
    kept = torch.ones(model["input_ids"].numel(), dtype=torch.bool, device=rows.device)
    kept[rows] = False
    others = kept.nonzero().squeeze(1)
    targets, segments = model["targets"], inputs["segments"]
    head = {
        "answer_rows": torch.cat([others, rows]),
        "targets": torch.cat([targets.new_zeros(len(others)), targets]),
    }
    segments = torch.cat([segments.new_full((len(others),), -1), segments])
    return {**inputs, "model": {**model, **head}, "segments": segments}
