"""The pair policy: which answers may be compared at all, and which of them become preference pairs.

Best against worst, taken blindly, trains on accidents: in published data of this kind about half of the rejected
answers are fragments, repetitions or duplicates, which teach a model nothing about the image. So an answer must first
be an answer (`pairs/faults.py`) and have a score; then two are chosen that can be compared (`pairs/choosing.py`); then
the pairs of a whole run are looked at together (`pairs/whole_run.py`). Everything set aside becomes a reject with one
of the reasons listed there, or `unscored`: the judge gave no score.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .pairs.choosing import Choice, FitAnswer, choose
from .pairs.faults import AnswerLimits, clean, fault_of
from .pairs.whole_run import RunLimits
from .records import Instruction, Pair, Reject, Response, content_id

STAGE = "pairs"


class PairPolicy(RunLimits, Choice, AnswerLimits):
    """The limits of an answer, of two answers, and of a run's pairs."""

    def pairs(self, instruction: Instruction, answers: Sequence[JudgedAnswer]) -> Sequence[Pair | Reject]:
        """Return the pairs of the answers to one instruction, and a reject for everything set aside.

        A policy of one's own overrides this: the answers come in the responders' order, each with its score. Equal
        arguments must give equal results. The limits of a run's pairs hold for its pairs too.
        """
        return make_pairs(instruction, answers, self)


@dataclass(frozen=True)
class JudgedAnswer:
    """A response with the judge's score (None: the judge had none)."""

    response: Response
    score: float | None


def make_pairs(instruction: Instruction, answers: Sequence[JudgedAnswer], policy: PairPolicy) -> list[Pair | Reject]:
    """Return the pairs of the fit answers by the policy's strategy, and a reject for everything set aside."""
    outcome: list[Pair | Reject] = []
    said: list[tuple[Response, str]] = []
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for answer in answers:
        response, fault = answer.response, fault_of(answer.response.text, instruction.text, policy)
        if fault is None and (answer.score is None or not math.isfinite(answer.score)):
            fault = ("unscored", f"score {answer.score}")
        if fault:
            outcome.append(Reject(response.id, STAGE, *fault))
        else:
            assert answer.score is not None
            text = clean(response.text, instruction.text)
            said.append((response, text))
            scores[text].append(answer.score)
    # Equal texts get one score: whose is taken must not hang on the last bits of two.
    fit = [FitAnswer(one.id, text, math.fsum(scores[text]) / len(scores[text])) for one, text in said]
    if len(fit) < 2:
        outcome.append(Reject(instruction.id, STAGE, "too_few_answers", f"{len(fit)} of {len(answers)} are fit"))
        return outcome
    pairs, refusals = choose(fit, policy)
    for refusal in refusals:
        match refusal.answers:
            case ():
                subject = instruction.id
            case (answer_id,):
                subject = answer_id
            case _:
                subject = content_id("pair", instruction.id, *refusal.answers)
        outcome.append(Reject(subject, STAGE, refusal.reason, refusal.detail))
    for chosen, rejected in pairs:
        identity = content_id("pair", instruction.id, chosen.id, rejected.id)
        texts, margin = (chosen.text, rejected.text), chosen.score - rejected.score
        outcome.append(Pair(identity, instruction.image_id, instruction.text, *texts, chosen.id, rejected.id, margin))
    return outcome
