"""Six classes of rejected answers, and what a set of pairs looks like in them.

The classes are those of the diagnosis that the authors of PDS-DPO published with their second data set; their rules
are not published, so these are ours. The first that holds is the class:

    artifact            no answer: empty, an echo of the instruction, fewer than two words, another language, holds
                        markers, markup or broken text (`faults.py`)
    length/repetition   more than 600 words; half of its 4-word sequences said before, or half of its words one word;
                        or ten times as many words as the chosen answer, or a tenth
    generic             half of its words stand in sentences that would fit any image (`generic.py`)
    duplicate           at least 0.9 of its 3-word sequences shared with the chosen answer (Jaccard)
    near-miss           at least 0.5 of them: the same answer but for a few words
    fluent-different    all else: an answer of its own

The last two teach something about the image; the others are junk. The rules do not move with a policy's limits, or
looser limits would hide what they let through; only whether languages are told apart is the policy's to say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .choosing import Choice
from .faults import AnswerLimits, fault_of
from .words import length_ratio, likeness, words_of

NegativeClass = Literal["duplicate", "near-miss", "fluent-different", "generic", "length/repetition", "artifact"]
CLASSES: tuple[NegativeClass, ...] = (
    *("near-miss", "fluent-different"),
    *("duplicate", "generic", "length/repetition", "artifact"),
)
"""What teaches first, then junk."""
JUNK = frozenset(CLASSES[2:])
EDGES = (0, 8, 16, 32, 64, 128, 256, 512)
"""Words from which the bars of a histogram begin; the last has no end."""
_OF_FAULT: dict[str, NegativeClass] = {
    **dict.fromkeys(("repetition", "too_long"), "length/repetition"),
    "generic": "generic",
}
_NEAR_MISS = 0.5


@dataclass(frozen=True, slots=True)
class Compared:
    """Two answers, cleaned, of which one is preferred."""

    instruction: str
    chosen: str
    rejected: str
    margin: float | None = None
    topic: str | None = None


def negative_class(pair: Compared, *, same_language: bool = True) -> tuple[NegativeClass, str]:
    """Return the class of a pair's rejected answer, and what puts it there."""
    if fault := fault_of(pair.rejected, pair.instruction, AnswerLimits(same_language=same_language)):
        reason, detail = fault
        return _OF_FAULT.get(reason, "artifact"), f"{reason}{detail and f': {detail}'}"
    chosen, rejected, rules = words_of(pair.chosen), words_of(pair.rejected), Choice()
    same = likeness(chosen, rejected)
    if same >= rules.near_duplicate:
        return "duplicate", f"{same:.0%} like the chosen answer"
    if rules.length_ratio and length_ratio(chosen, rejected) > rules.length_ratio:
        return "length/repetition", f"{len(rejected)} words, the chosen answer has {len(chosen)}"
    return ("near-miss" if same >= _NEAR_MISS else "fluent-different"), f"{same:.0%} like the chosen answer"


@dataclass(frozen=True)
class Lengths:
    """Words of the answers on one side."""

    mean: float
    median: float
    longest: int
    histogram: tuple[int, ...]
    """Answers from each of EDGES on."""


@dataclass(frozen=True)
class SetQuality:
    """A set of pairs. Shares are of its pairs; None where there is nothing to take them of."""

    pairs: int
    classes: dict[str, int]
    junk: int
    junk_share: float | None
    junk_chosen: int
    """Pairs whose chosen answer is no answer, a repetition or generic."""
    chosen: Lengths | None
    rejected: Lengths | None
    longer_chosen: float | None
    """Share of pairs whose longer answer is the chosen one; equal lengths count half. 0.5: length says nothing."""
    length_correlation: float | None
    """Pearson correlation over all answers of log(1 + words) with being chosen: -1 to 1."""
    margin: dict[str, float] | None
    """Quantiles of the difference of the two scores."""
    topics: dict[str, dict[str, int]]
    """Pairs and junk of every topic."""


@dataclass
class Tally:
    """Counts pairs one at a time."""

    same_language: bool = True
    classes: Counter[str] = field(default_factory=Counter)
    lengths: list[tuple[int, int]] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    topics: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    junk_chosen: int = 0

    def add(self, pair: Compared) -> tuple[NegativeClass, str]:
        """Count a pair and return its class, and what puts it there."""
        found, why = negative_class(pair, same_language=self.same_language)
        self.classes[found] += 1
        limits = AnswerLimits(same_language=self.same_language)
        self.junk_chosen += fault_of(pair.chosen, pair.instruction, limits) is not None
        self.lengths.append((len(words_of(pair.chosen)), len(words_of(pair.rejected))))
        if pair.margin is not None:
            self.margins.append(pair.margin)
        if pair.topic is not None:
            self.topics[pair.topic].update(pairs=1, junk=int(found in JUNK))
        return found, why

    def add_refused(self, negative: NegativeClass, count: int) -> None:
        """Count pairs of which nothing is known but their class: those that could not be read as pairs."""
        self.classes[negative] += count

    def result(self) -> SetQuality:
        """Return what was counted."""
        count = self.classes.total()
        junk = sum(self.classes[name] for name in JUNK)
        words = np.array(self.lengths, dtype=np.int64).reshape(-1, 2)
        return SetQuality(
            pairs=count,
            classes={name: self.classes[name] for name in CLASSES},
            junk=junk,
            junk_share=round(junk / count, 4) if count else None,
            junk_chosen=self.junk_chosen,
            chosen=_lengths(words[:, 0]),
            rejected=_lengths(words[:, 1]),
            longer_chosen=round(float((np.sign(words[:, 0] - words[:, 1]) + 1).mean() / 2), 4) if len(words) else None,
            length_correlation=length_correlation(self.lengths),
            margin=_quantiles(self.margins),
            topics={topic: dict(counts) for topic, counts in sorted(self.topics.items())},
        )


def length_correlation(lengths: Sequence[tuple[int, int]]) -> float | None:
    """Return the correlation of log(1 + words) with being chosen, from (chosen, rejected) words; None if undefined."""
    logs = np.log1p(np.array(lengths, dtype=np.float64).reshape(-1, 2))
    spread = float(logs.std()) if len(logs) else 0.0
    # half of the answers are chosen, so the covariance with the 0/1 of choice is a quarter of the means' distance
    return round(float(logs[:, 0].mean() - logs[:, 1].mean()) / (2 * spread), 4) if spread > 1e-12 else None


def _lengths(words: np.ndarray) -> Lengths | None:
    if not len(words):
        return None
    counts, _ = np.histogram(words, [*EDGES, np.inf])
    return Lengths(
        round(float(words.mean()), 2), float(np.median(words)), int(words.max()), tuple(int(count) for count in counts)
    )


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    shares = (0, 10, 50, 90, 100)
    found = np.percentile(values, shares) if values else ()
    return {f"{share}%": round(float(value), 6) for share, value in zip(shares, found, strict=False)} or None
