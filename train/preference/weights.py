"""What a pair counts: in proportion to the judge's margin between its answers, where that is asked for.

A preference says which answer is better; the judge's scores also say by how much, and a pair that it hardly tells apart
is as often wrong as right. A pair's loss is multiplied by its margin, as in Reward Difference Optimization (arXiv
2408.09385), here divided by the mean: weights of mean 1 leave the learning rate its meaning, and no scale of the judge
enters. Margins above four times the mean are taken for that, so that no single pair leads a step. A pair that the judge
would turn around counts nothing. The other form of the literature, an offset in the logit (ODPO, arXiv 2402.10571),
needs a factor that fits the judge's scale, and a loss with a logit; this one is free of both.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...base.errors import PrefmillError
from ...pipeline.records import Pair

_HIGHEST = 4.0
"""Times the mean of the margins."""


def margin_weights(pairs: Sequence[Pair], held_out: Sequence[Pair] = ()) -> dict[str, float]:
    """Return the weight of each pair by its id; those of `pairs` have mean 1, the others are measured with their scale.

    Raises PrefmillError where no pair would count. Every pair must have a margin (see load_pairs).
    """
    margins = {pair.id: max(pair.margin or 0.0, 0.0) for pair in [*pairs, *held_out]}
    highest = _HIGHEST * sum(margins[pair.id] for pair in pairs) / len(pairs)
    clipped = {pair_id: min(margin, highest) for pair_id, margin in margins.items()}
    mean = sum(clipped[pair.id] for pair in pairs) / len(pairs)
    if not mean:
        raise PrefmillError(
            f"the judge's margin is 0 or below for all {len(pairs)} pairs, so that none would count",
            "set margin_weight=none",
        )
    return {pair_id: margin / mean for pair_id, margin in clipped.items()}


def about(weights: Sequence[float]) -> str:
    """Return what a manifest says of weights."""
    none = sum(weight == 0 for weight in weights)
    ignored = f"; {none} pairs, whose margin is 0 or below, do not count" if none else ""
    return f"pairs are weighted by the judge's margin, from {min(weights):.3g} to {max(weights):.3g}{ignored}"
