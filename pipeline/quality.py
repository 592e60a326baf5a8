"""How good a run's negatives are: six classes of rejected answers, before and after the pair policy.

"Before" is what best against worst, taken blindly, would have trained on; an answer without a score (an empty one has
none) counts as the worst, as it did in the published data. Pairs that were imported are taken as they came, with what
the import refused as empty or as the same text twice; "after" is then what the policy would leave of them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from ..base.errors import PrefmillError
from .declaration import Inputs
from .pair_policy import PairPolicy
from .pairs.choosing import FitAnswer, choose
from .pairs.faults import clean, fault_of
from .pairs.negatives import CLASSES, JUNK, Compared, NegativeClass, SetQuality, Tally
from .records import Pair, Response
from .sources import Panel, responders_of, responses_folder
from .stages.answer import STAGE as ANSWER
from .stages.pair import STAGE as PAIR
from .stages.pair import judged_panels, origins
from .store import Run

_PORTION = 256  # panels held in memory at a time
_SHOWN = 300  # characters of an example
_EXAMPLES = 2  # of a class
_REFUSED_AT_IMPORT: dict[str, NegativeClass] = {"empty_rejected": "artifact", "duplicate": "duplicate"}


@dataclass(frozen=True)
class Example:
    """A pair with the class of its rejected answer; texts are cut."""

    negative: NegativeClass
    why: str
    instruction: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Quality:
    """A run's pairs. `before` and `after` the policy: None where the run cannot tell."""

    pairs_from: Literal["judged answers", "imported pairs", "answers without scores"]
    before: SetQuality | None
    after: SetQuality | None
    rejects: dict[str, int]
    """What went no further, by reason."""
    answers: int
    """Answers of responders that the run holds."""
    faults: dict[str, int]
    """Answers unfit to be compared, by reason."""
    unanswered: int
    """Questions to which a responder gave no answer: rejects of the answering stages."""
    examples: list[Example] = field(default_factory=list)


def quality_of(run: Run) -> Quality:
    """Return the quality of a run's pairs, with a few examples of every class.

    Raises PrefmillError where the run holds neither pairs nor answers.
    """
    policy = policy_of(run)
    gallery = _Gallery()
    folders = [responses_folder(name) for name in responders_of(run)]
    inputs = Inputs(run, policy, {ANSWER.name: folders})
    if "imported" in run.manifest(PAIR.name).get("config", {}):
        return _of_imported(run, policy, inputs, gallery)
    panels, pairs = judged_panels(inputs), run.dataset(PAIR.name, Pair)
    if not len(panels) and not len(pairs):
        raise PrefmillError(
            f"{run.folder} holds neither pairs nor answers", "import some with `prefmill import`, or make some first"
        )
    prompts, topics = origins(inputs)
    before, after, faults = Tally(policy.same_language), Tally(policy.same_language), Counter[str]()
    answers = 0
    for panel in chain.from_iterable(panels.read(start, start + _PORTION) for start in range(0, len(panels), _PORTION)):
        answers += len(panel.answers)
        for answer in panel.answers:
            if fault := fault_of(answer.response.text, panel.instruction.text, policy):
                faults[fault[0]] += 1
        if pair := _blind(panel, topics.get(prompts.get(panel.instruction.image_id, ""))):
            gallery.add(pair, *before.add(pair))
    for row in pairs:
        pair = _compared(row, topics.get(prompts.get(row.image_id, "")))
        gallery.add(pair, *after.add(pair))
    is_judged = bool(before.lengths)
    return Quality(
        pairs_from="judged answers" if is_judged or len(pairs) else "answers without scores",
        before=before.result() if is_judged else None,
        after=after.result() if run.has(PAIR.name) else None,
        rejects=pairs.reject_counts(),
        answers=answers,
        faults=dict(faults.most_common()),
        unanswered=sum(len(list(run.dataset(folder, Response).rejects())) for folder in folders),
        examples=gallery.examples(),
    )


def policy_of(run: Run) -> PairPolicy:
    """Return the policy that a run's pairs were made by; the default one where none were."""
    config = run.manifest(PAIR.name).get("config", {})
    return PairPolicy.model_validate({key: value for key, value in config.items() if key in PairPolicy.model_fields})


def _of_imported(run: Run, policy: PairPolicy, inputs: Inputs, gallery: _Gallery) -> Quality:
    prompts, topics = origins(inputs)
    before, after = Tally(policy.same_language), Tally(policy.same_language)
    dataset = run.dataset(PAIR.name, Pair)
    rejects = Counter(dataset.reject_counts())
    for reason, negative in _REFUSED_AT_IMPORT.items():
        before.add_refused(negative, rejects[reason])
    for row in dataset:
        pair = _compared(row, topics.get(prompts.get(row.image_id, "")))
        gallery.add(pair, *before.add(pair))
        if reason := _refused(pair, policy):
            rejects[reason] += 1
        else:
            after.add(pair)
    return Quality(
        pairs_from="imported pairs",
        before=before.result(),
        after=after.result(),
        rejects=dict((+rejects).most_common()),
        answers=0,
        faults={},
        unanswered=0,
        examples=gallery.examples(),
    )


def _compared(row: Pair, topic: str | None) -> Compared:
    return Compared(row.instruction, row.chosen, row.rejected, row.margin, topic)


def _blind(panel: Panel, topic: str | None) -> Compared | None:
    """Return the best and the worst answer as their scores say, whatever they are; None where nothing was scored."""
    scored = [answer for answer in panel.answers if answer.score is not None]
    if not scored or len(panel.answers) < 2:
        return None
    ranked = sorted(panel.answers, key=lambda answer: math.inf if answer.score is None else -answer.score)
    best, worst = ranked[0], ranked[-1]
    margin = None if best.score is None or worst.score is None else best.score - worst.score
    instruction = panel.instruction.text
    chosen, rejected = (clean(answer.response.text, instruction) for answer in (best, worst))
    return Compared(instruction, chosen, rejected, margin, topic)


def _refused(pair: Compared, policy: PairPolicy) -> str | None:
    """Return why the policy would not have made this pair, or None."""
    for text in (pair.chosen, pair.rejected):
        if fault := fault_of(text, pair.instruction, policy):
            return fault[0]
    sides = [FitAnswer("chosen", pair.chosen, math.inf), FitAnswer("rejected", pair.rejected, 0.0)]
    made, refusals = choose(sides, policy)
    return None if made else refusals[0].reason


class _Gallery:
    """A few examples of every class."""

    def __init__(self) -> None:
        self._found: dict[NegativeClass, list[Example]] = {name: [] for name in CLASSES}

    def add(self, pair: Compared, negative: NegativeClass, why: str) -> None:
        found = self._found[negative]
        if len(found) < _EXAMPLES:
            texts = (pair.instruction, pair.chosen, pair.rejected)
            example = Example(negative, why, *(text[:_SHOWN] for text in texts))
            if example not in found:
                found.append(example)

    def examples(self) -> list[Example]:
        """Return them, junk first."""
        return sorted(
            (example for found in self._found.values() for example in found),
            key=lambda example: (example.negative not in JUNK, CLASSES.index(example.negative)),
        )
