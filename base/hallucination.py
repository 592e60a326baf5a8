"""What evaluations of hallucination count, and the shares that they state: one formula each, whoever reads the answers.

A reading of answers ends in counts (how often "yes" was said, how many nouns were invented); everything here is made
of sums of such counts. POPE (arXiv 2305.10355) asks about things that are there and things that are not; CHAIR
(arXiv 1809.02156) counts the things that a description invents; AMBER (arXiv 2311.07397) does both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """`factor` times the sum of one count over the summed sums of others."""

    over: str
    under: tuple[str, ...]
    factor: float = 1.0

    def of(self, sums: Mapping[str, float]) -> float | None:
        """Return the share; None where there is nothing to be a share of."""
        whole = sum(sums[name] for name in self.under)
        return self.factor * sums[self.over] / whole if whole else None


YES_OR_NO: Mapping[str, Share] = {
    "accuracy": Share("right", ("items",)),
    "precision": Share("both", ("said",)),
    "recall": Share("both", ("true",)),
    "f1": Share("both", ("said", "true"), 2.0),
    "said_ratio": Share("said", ("items",)),
}
"""Of answers to questions with two answers, one of which is the positive class ("yes" in POPE, "no" in AMBER).

`items`: questions; `right`: answered as it is; `true`: whose answer is the positive class; `said`: answered with it;
`both`: the two together. An answer that is neither is not right, and not said. F1 is 2 both / (said + true), which is
the harmonic mean of precision and recall, and 0 where nothing was said.
"""

CHAIR: Mapping[str, Share] = {
    "chair_i": Share("invented", ("named",)),
    "chair_s": Share("inventive", ("items",)),
    "recall": Share("found", ("there",)),
}
"""Of descriptions: `named` are mentions of known things, `invented` those that are not there, `inventive` descriptions
with one or more of them, `there` the things of an image, `found` those of them that were named."""


def yes_or_no_counts(said: Sequence[bool | None], truths: Sequence[bool]) -> list[dict[str, int]]:
    """Return the counts of each of N answers: whether it says the positive class (None: neither), and whether that is.

    Raises ValueError for another number of truths.
    """
    return [
        {"items": 1, "right": one is truth, "true": truth, "said": one is True, "both": one is True and truth}
        for one, truth in zip(said, truths, strict=True)
    ]


def shares_of(shares: Mapping[str, Share], counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the shares of the summed counts of all items; NaN for a share of nothing."""
    names = {name for share in shares.values() for name in (share.over, *share.under)}
    sums = {name: sum(one[name] for one in counts) for name in names}
    found = {name: share.of(sums) for name, share in shares.items()}
    return {name: math.nan if value is None else value for name, value in found.items()}


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int, float]:
    """Of N subjects that are wrong or not (True: wrong) twice: how many were mended, how many broken, and exact p.

    The two-sided exact test: p of a split at least this uneven if mending and breaking were equally likely.
    """
    mended = sum(was and not now for was, now in zip(before, after, strict=True))
    broken = sum(now and not was for was, now in zip(before, after, strict=True))
    changed = mended + broken
    tail = ways = 1  # ways to choose `count` of the changed
    for count in range(min(mended, broken)):
        ways = ways * (changed - count) // (count + 1)
        tail += ways
    return mended, broken, min(1.0, 2 * tail / 2**changed)
