"""What descriptions and yes/no answers say, held against what is there: CHAIR and POPE.

CHAIR (arXiv 1809.02156) counts the objects that a description invents; POPE (arXiv 2305.10355) asks about objects that
are there and as many that are not. Both need exact truth, which a scene is: the one that was drawn, or the one that
the oracle reads in a generated image. The formulas are `base/hallucination.py`'s; what is here reads the answers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from ...base.hallucination import CHAIR, YES_OR_NO, shares_of, yes_or_no_counts
from ..world.language import Question, mentioned_kinds, mentions, present_question, says_yes
from ..world.scenes import KINDS, Scene, sample_scenes

PopeStrategy = Literal["random", "popular", "adversarial"]
POPE_STRATEGIES: tuple[PopeStrategy, ...] = ("random", "popular", "adversarial")

_COUNTED_SCENES = 5000


@dataclass(frozen=True, slots=True)
class Chair:
    """Over a set of descriptions, all 0 to 1.

    `chair_s`: descriptions that name something absent. `chair_i`: named objects that are absent, of all that are
    named. `object_recall`: objects there that are named.
    """

    chair_s: float
    chair_i: float
    object_recall: float


@dataclass(frozen=True, slots=True)
class Pope:
    """Over a set of yes/no answers, all 0 to 1; "yes" is the positive class, an answer that is neither is wrong."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float


@dataclass(frozen=True, slots=True)
class PopeQuestion:
    """A yes/no question about the scene number `scene`, with its truth."""

    scene: int
    question: Question
    truth: bool
    strategy: PopeStrategy


def hallucinated_kinds(description: str, scene: Scene) -> list[str]:
    """The absent kinds that a description names, once per mention."""
    return [mention.kind for mention in mentions(description) if mention.kind not in scene.kinds]


def chair(descriptions: Sequence[str], scenes: Sequence[Scene]) -> Chair:
    """CHAIR of N descriptions of N scenes; NaN for what would divide by nothing."""
    counts = []
    for text, scene in zip(descriptions, scenes, strict=True):
        invented, found = len(hallucinated_kinds(text, scene)), len(mentioned_kinds(text) & scene.kinds)
        counts.append({"items": 1, "invented": invented, "inventive": invented > 0, "named": len(mentions(text))})
        counts[-1] |= {"found": found, "there": len(scene.kinds)}
    shares = shares_of(CHAIR, counts)
    return Chair(shares["chair_s"], shares["chair_i"], shares["recall"])


def pope_questions(scenes: Sequence[Scene], strategy: PopeStrategy, seed: int = 0) -> list[PopeQuestion]:
    """For each scene its kinds (truth: yes), and as many absent ones (truth: no).

    Absent kinds are `random`, the most `popular` in training scenes, or `adversarial`: those that most often keep
    company with what is there. Ties are broken at random, so that a kind has no advantage by its name.
    """
    random = np.random.default_rng([seed, POPE_STRATEGIES.index(strategy)])
    questions = []
    for number, scene in enumerate(scenes):
        shuffled = [KINDS[place] for place in random.permutation(len(KINDS))]
        absent = [kind for kind in shuffled if kind not in scene.kinds]
        if strategy != "random":
            absent.sort(key=lambda kind: -_popularity(kind, scene if strategy == "adversarial" else None))
        there = [kind for kind in shuffled if kind in scene.kinds]
        for kind, truth in [*((kind, True) for kind in there), *((kind, False) for kind in absent[: len(there)])]:
            questions.append(PopeQuestion(number, present_question(kind), truth, strategy))
    return questions


def pope(answers: Sequence[str], truths: Sequence[bool]) -> Pope:
    """POPE of N answers to N questions; NaN for what would divide by nothing."""
    shares = shares_of(YES_OR_NO, yes_or_no_counts([says_yes(answer) for answer in answers], truths))
    return Pope(shares["accuracy"], shares["precision"], shares["recall"], shares["f1"], shares["said_ratio"])


def _popularity(kind: str, scene: Scene | None) -> int:
    alone, together = _counts()
    return alone[kind] if scene is None else sum(together[kind, other] for other in scene.kinds)


@cache
def _counts() -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """How often each kind, and each two kinds, are in a training scene."""
    alone: Counter[str] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    for scene in sample_scenes("train", _COUNTED_SCENES, 0, distinct=False):
        alone.update(scene.kinds)
        together.update((one, other) for one in scene.kinds for other in scene.kinds)
    return alone, together
