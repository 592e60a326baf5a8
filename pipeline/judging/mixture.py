"""Several judges' scores as one: standardised within each instruction, then weighed.

Judges count in units of their own (a gated reward, 1 to 10, shares of wins), and only answers to one instruction are
ever compared. So a judge's scores of these are brought to mean 0 and deviation 1, and their weighted mean is taken; a
judge that sees no difference says 0 of all. Nothing depends on other instructions: rows that are added to a run leave
those that are there as they are.

Scores are compared only where they mean the same. A judge that said nothing of an instruction is left out there, and
the others go on; an answer that one of the rest did not score is set aside, since a mean over fewer judges lies farther
out, and would be best or worst too often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..records import Reject, Score

ScoresOfJudges = Mapping[str, Sequence[float | None]]
"""By the judge's name, one score per answer; None where there is none."""


@dataclass(frozen=True)
class JudgedPanel:
    """The ids of the answers to one instruction, their scores by every judge, and of which something was not read."""

    answers: tuple[str, ...]
    scores: ScoresOfJudges
    truncated: frozenset[str] = frozenset()


def mixed(panel: JudgedPanel, weights: Mapping[str, float], stage: str) -> list[Score | Reject]:
    """Return one score per answer by the weights, with every judge's own among its attributes, or why there is none."""
    counted = {name: weight for name, weight in weights.items() if weight}
    speaking = [name for name in counted if name not in silent_judges(panel, weights)]
    silent = [
        [name for name in speaking or counted if panel.scores[name][place] is None]
        for place in range(len(panel.answers))
    ]
    whole = [place for place, missing in enumerate(silent) if not missing]
    total = math.fsum(counted[name] for name in speaking)
    values = dict.fromkeys(whole, 0.0)
    for name in speaking:
        own = standardised([panel.scores[name][place] or 0.0 for place in whole])
        for place, value in zip(whole, own, strict=True):
            values[place] += counted[name] * value / total
    scorer = "mixture of " + ", ".join(f"{name} {weights[name]:g}" for name in speaking)
    outcome: list[Score | Reject] = []
    for place, (answer, missing) in enumerate(zip(panel.answers, silent, strict=True)):
        if missing:
            outcome.append(Reject(answer, stage, "unjudged", f"no score of {', '.join(missing)}"))
            continue
        own = {name: score for name in weights if (score := panel.scores[name][place]) is not None}
        outcome.append(Score(answer, scorer, values[place], answer in panel.truncated, own))
    return outcome


def silent_judges(panel: JudgedPanel, weights: Mapping[str, float]) -> list[str]:
    """Return the judges of some weight that scored none of the answers."""
    if not panel.answers:
        return []
    return [name for name in weights if weights[name] and all(score is None for score in panel.scores[name])]


def standardised(values: Sequence[float]) -> list[float]:
    """Return values at mean 0 and deviation 1 (of all of them, not of a sample).

    Zeros where they are equal, to six digits: what differs beyond is rounding, which a deviation of 1 would blow up.
    """
    if not values or max(values) - min(values) <= 1e-6 * max(map(abs, values)):
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / deviation for value in values]
