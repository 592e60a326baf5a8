"""Batches that a device's memory does not hold, computed in halves."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from ..base.errors import PrefmillError

T = TypeVar("T")


class Portions:
    """Computes batches whole until one does not fit; from then on in portions of half the size, and so on.

    `size` is None while everything fits. Every row is computed in full in any case; its last bits can depend on the
    portion, as they can on a batch.
    """

    def __init__(self) -> None:
        self.size: int | None = None

    def run(self, batch: Sequence[T], compute: Callable[[Sequence[T]], Sequence[Any]]) -> list[Any]:
        """What `compute` gives for the whole batch. Raises PrefmillError where a single row does not fit."""
        done: list[Any] = []
        start = 0
        while start < len(batch):
            portion = batch[start : start + (self.size or len(batch))]
            try:
                done += compute(portion)
                start += len(portion)
                continue
            except torch.OutOfMemoryError as error:
                # The error itself goes with this block, and with it the frames that hold the tensors.
                message = str(error).splitlines()[0] if len(portion) == 1 else ""
            if message:
                raise PrefmillError(
                    f"the device's memory does not hold the work for a single row: {message}",
                    "set generate.decode_batch=1, generate.t5=host, or a smaller width and height",
                )
            self.size = len(portion) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return done
