"""How well scores agree with people: the rules of the official evaluations, on one prompt's images at a time.

Ranks are people's, lower is better, equal ranks are a tie; scores are a model's, higher is better. The rules differ
where somebody is undecided, so each says what a tie of either side counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

THRESHOLDS = tuple(step / 10 for step in range(11))
"""Differences of probability up to which PickScore's evaluation calls a pair a tie."""


def decided_pairs(ranks: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yield (better, worse) for all pairs that people rank differently."""
    for one, other in combinations(range(len(ranks)), 2):
        if ranks[one] != ranks[other]:
            yield (one, other) if ranks[one] < ranks[other] else (other, one)


def correct_pairs(pairs: Sequence[tuple[int, int]], scores: Sequence[float]) -> int:
    """Return how many (better, worse) pairs have the higher score for the better; equal scores are wrong.

    ImageReward's rule (THUDM/ImageReward, test.py, `acc`).
    """
    return sum(scores[better] > scores[worse] for better, worse in pairs)


def equal_pairs(pairs: Sequence[tuple[int, int]], scores: Sequence[float]) -> int:
    """Return how many of the pairs have equal scores."""
    return sum(scores[better] == scores[worse] for better, worse in pairs)


def share_not_inverted(ranks: Sequence[float], scores: Sequence[float]) -> float:
    """Return 1 - inversions / all pairs: an inversion is a pair that scores order against people's order.

    HPSv2's rule (tgxs002/HPSv2, `inversion_score`): pairs that people tie count as right whatever the scores. Equal
    scores have no order there either, since the scores are first made a permutation by an unstable sort; here the
    earlier image goes first.
    """
    order = sorted(range(len(scores)), key=lambda image: -scores[image])
    place = {image: position for position, image in enumerate(order)}
    inversions = sum(place[better] > place[worse] for better, worse in decided_pairs(ranks))
    return 1 - inversions / (len(ranks) * (len(ranks) - 1) / 2)


def best_is_among(ranks: Sequence[float], scores: Sequence[float], k: int) -> bool:
    """Return whether an image that people rank best is among the k highest scores; equal scores do not help it."""
    best = [image for image, rank in enumerate(ranks) if rank == min(ranks)]
    return any(sum(score >= scores[image] for score in scores) <= k for image in best)


def tie_aware_choice(ranks: Sequence[float], scores: Sequence[float], threshold: float) -> float:
    """Return what a choice between two images earns: 1 if it is people's, 0.5 if one side alone calls a tie, else 0.

    PickScore's rule (yuvalkirstain/PickScore, eval_preference_predictor.py): a tie is predicted where the
    probabilities, the softmax of the two scores, differ by no more than `threshold`.
    """
    difference = math.tanh((scores[0] - scores[1]) / 2)  # of the two probabilities
    predicted = 0 if abs(difference) <= threshold else math.copysign(1, difference)
    wanted = (ranks[0] < ranks[1]) - (ranks[0] > ranks[1])
    if predicted == wanted:
        return 1.0
    return 0.5 if 0 in (predicted, wanted) else 0.0
