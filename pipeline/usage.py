"""What a stage's requests to models took: counted per shard, summed in the manifest.

It stands beside the rows and not in them, because latency and cost differ from run to run and rows must not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..engine.responders.interface import Reply


@dataclass(frozen=True)
class Usage:
    """Sums over requests; `seconds` from each request to its answer, `slowest` the longest; `cost` where known."""

    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    cost: float | None = None

    @classmethod
    def of(cls, replies: Iterable[Reply]) -> Usage:
        """Return the usage of replies."""
        from ..engine.responders.interface import Failure  # torch: only where a model has answered

        return total(
            cls(
                1,
                isinstance(reply, Failure),
                0 if isinstance(reply, Failure) else reply.prompt_tokens or 0,
                0 if isinstance(reply, Failure) else reply.tokens,
                reply.seconds or 0.0,
                reply.seconds or 0.0,
                reply.cost,
            )
            for reply in replies
        )

    def __add__(self, other: Usage) -> Usage:
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            self.requests + other.requests,
            self.failures + other.failures,
            self.prompt_tokens + other.prompt_tokens,
            self.tokens + other.tokens,
            round(self.seconds + other.seconds, 3),
            round(max(self.slowest, other.slowest), 3),
            round(sum(costs), 9) if costs else None,
        )


def total(usages: Iterable[Usage]) -> Usage:
    """Return the sum of usages."""
    return reduce(add, usages, Usage())
