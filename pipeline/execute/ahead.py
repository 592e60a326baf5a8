"""Batches that a thread reads and prepares ahead of the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..stage import Source, Stage
from .plan import Batch


def prepared_ahead(
    stage: Stage[Any, Any], source: Source[Any], batches: Iterable[Batch], depth: int
) -> Generator[tuple[Batch, Any], None, None]:
    """Yield each batch prepared, while up to `depth` further ones are being prepared. Close it where it is left early.

    A source reads files through one cursor, so one thread reads.
    """
    upcoming, ahead = iter(batches), deque[tuple[Batch, Future[Any]]]()
    with ThreadPoolExecutor(1, "prepare") as reader:

        def prepare_next() -> None:
            batch = next(upcoming, None)
            if batch is not None:
                ahead.append((batch, reader.submit(lambda: stage.prepare(source.read(batch.start, batch.stop)))))

        try:
            for _ in range(depth):
                prepare_next()
            while ahead:
                batch, prepared = ahead.popleft()
                ready = prepared.result()
                prepare_next()
                yield batch, ready
        finally:
            for _, pending in ahead:
                pending.cancel()
