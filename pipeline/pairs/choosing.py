"""Which two of the fit answers to one instruction become a pair. Pure: scored answers in, choices and refusals out.

    best_worst    the best against the worst (as published)
    best_second   the best against the runner-up: what differs is little, and the judge must be trusted
    hard          the best against the closest wrong one: of those clearly worse, the most like it in form and length
    all           every two that differ by the margin

Of two answers compared:

    duplicate, near_duplicate   they say the same        tie, margin   the judge sees no (or too little) difference
    length                      one is so much longer that the pair would teach length
    too_few_answers             fewer than two are left
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

from pydantic import Field

from ...base.settings import Settings
from .words import length_ratio, likeness, words_of


class Choice(Settings):
    """How two answers are chosen, and how far apart they must and may be."""

    strategy: Literal["best_worst", "best_second", "hard", "all"] = "best_worst"
    minimum_margin: float = Field(default=0.0, ge=0, description="least difference of the two scores")
    clearly_worse: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="strategy hard: how far below the best an answer must be, as a share of the distance to the worst",
    )
    near_duplicate: float = Field(default=0.9, gt=0, le=1, description="shared share of 3-word sequences (Jaccard)")
    length_ratio: float | None = Field(
        default=10.0,
        ge=1,
        description="most words of the longer answer for each of the shorter; null: any. By default extremes alone are "
        "refused; 1.25, say, matches lengths, so that length cannot be learned in the place of content",
    )


@dataclass(frozen=True)
class FitAnswer:
    """An answer that may be compared: its id, cleaned text and score."""

    id: str
    text: str
    score: float

    @cached_property
    def words(self) -> list[str]:
        """Its words."""
        return words_of(self.text)


@dataclass(frozen=True)
class Refusal:
    """What became no pair and why: an answer, two answers (chosen, rejected), or (none) the instruction."""

    reason: str
    detail: str
    answers: tuple[str, ...] = ()


Chosen = tuple[FitAnswer, FitAnswer]
"""The answer to prefer, and the one to reject."""


def choose(answers: Sequence[FitAnswer], choice: Choice) -> tuple[list[Chosen], list[Refusal]]:
    """Return the pairs of the fit answers to one instruction, and why others became none.

    Of equal scores the earlier answer goes first. Refuses the instruction where no two answers are left to compare.
    """
    ranked = sorted(answers, key=lambda answer: -answer.score)
    if len(ranked) < 2:
        return [], [Refusal("too_few_answers", f"{len(ranked)} fit")]
    return _all_pairs(ranked, choice) if choice.strategy == "all" else _best_pair(ranked, choice)


def _best_pair(ranked: Sequence[FitAnswer], choice: Choice) -> tuple[list[Chosen], list[Refusal]]:
    best, *others = ranked
    refusals: list[Refusal] = []
    narrow: Refusal | None = None
    for other in _opponents(best, others, choice):
        if unlike := _no_comparison(best, other, choice):
            refusals.append(unlike)
        elif narrow := _too_narrow(best, other, choice):
            if choice.strategy == "best_worst":
                break  # the others are closer still
        else:
            return [(best, other)], refusals
    return [], [*refusals, narrow or Refusal("too_few_answers", _why_none(refusals))]


def _why_none(refusals: Sequence[Refusal]) -> str:
    if any(refusal.reason == "length" for refusal in refusals):
        return "no other fit answer says something else at such a length"
    return "all fit answers say the same"


def _opponents(best: FitAnswer, others: Sequence[FitAnswer], choice: Choice) -> Sequence[FitAnswer]:
    """Return whom the best may stand against, first who should."""
    if choice.strategy == "best_worst":
        return others[::-1]
    if choice.strategy == "best_second":
        return others
    spread = best.score - others[-1].score
    clear = [other for other in others if best.score - other.score >= choice.clearly_worse * spread]
    return sorted(clear, key=lambda other: -closeness(best, other))


def closeness(left: FitAnswer, right: FitAnswer) -> float:
    """Return how alike two answers are in form: the mean of their likeness and of the shorter's share of the longer."""
    return (likeness(left.words, right.words) + 1 / length_ratio(left.words, right.words)) / 2


def _all_pairs(ranked: Sequence[FitAnswer], choice: Choice) -> tuple[list[Chosen], list[Refusal]]:
    unique: list[FitAnswer] = []
    refusals: list[Refusal] = []
    for answer in ranked:  # the same said twice would be compared twice with everything else
        repeated = (same for kept in unique if (same := _duplicate(kept, answer, choice)))
        if refusal := next(repeated, None):
            refusals.append(refusal)
        else:
            unique.append(answer)
    if len(unique) < 2:
        return [], [*refusals, Refusal("too_few_answers", "all fit answers say the same")]
    pairs: list[Chosen] = []
    for better, worse in combinations(unique, 2):
        obstacle = _unmatched(better, worse, choice) or _too_narrow(better, worse, choice)
        if obstacle:
            refusals.append(
                Refusal(obstacle.reason, f"{better.id}, {worse.id}: {obstacle.detail}", (better.id, worse.id))
            )
        else:
            pairs.append((better, worse))
    return pairs, refusals


def _no_comparison(best: FitAnswer, other: FitAnswer, choice: Choice) -> Refusal | None:
    return _duplicate(best, other, choice) or _unmatched(best, other, choice)


def _duplicate(kept: FitAnswer, other: FitAnswer, choice: Choice) -> Refusal | None:
    same = likeness(kept.words, other.words)
    if same < choice.near_duplicate:
        return None
    equal = " ".join(kept.text.split()).lower() == " ".join(other.text.split()).lower()
    return Refusal("duplicate" if equal else "near_duplicate", f"{same:.0%} like {kept.id}", (other.id,))


def _unmatched(best: FitAnswer, other: FitAnswer, choice: Choice) -> Refusal | None:
    if choice.length_ratio is None or length_ratio(best.words, other.words) <= choice.length_ratio:
        return None
    detail = f"{len(other.words)} words beside {len(best.words)} of {best.id}, at most {choice.length_ratio:g} to 1"
    return Refusal("length", detail, (other.id,))


def _too_narrow(best: FitAnswer, other: FitAnswer, choice: Choice) -> Refusal | None:
    margin = best.score - other.score
    if margin == 0:
        return Refusal("tie", f"all score {best.score:.4f}")
    if margin < choice.minimum_margin:
        return Refusal("margin", f"{margin:.4f} < {choice.minimum_margin:.4f}")
    return None
