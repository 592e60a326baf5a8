"""The pair policy: which answers may be compared at all, and which two of them become a preference pair.

Best against worst, taken blindly, trains on accidents: in published data of this kind about half of the rejected
answers are fragments, repetitions or duplicates, which teach a model nothing about the image. So an answer must
first be an answer. One that is not becomes a reject with its reason, and the pair is made of the others:

    empty            nothing was said                    echo            only the instruction was repeated
    wrong_language   not the instruction's language      repetition      the same words over and over
    too_short, too_long   outside the word limits        unscored        the judge gave no score

and of two answers compared:

    duplicate, near_duplicate   they say the same        tie, margin     the judge sees no (or too little) difference
    too_few_answers             fewer than two are left
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import Field

from ..base.settings import Settings
from .records import Instruction, Pair, Reject, Response, content_id

STAGE = "pairs"
_WORD = re.compile(r"\w+")


class PairPolicy(Settings):
    """The limits; the defaults are chosen for free-form answers of a few words to a few paragraphs."""

    minimum_words: int = Field(default=2, ge=1)
    maximum_words: int = Field(default=600, ge=1)
    maximum_repetition: float = Field(default=0.5, ge=0, le=1, description="share of 4-word sequences said before")
    near_duplicate: float = Field(default=0.9, gt=0, le=1, description="shared share of 3-word sequences (Jaccard)")
    minimum_margin: float = Field(default=0.0, ge=0, description="least difference of the two scores")
    same_language: bool = Field(default=True, description="answers must be in the instruction's language")
    language_confidence: float = Field(default=0.9, gt=0, le=1, description="how sure the identification must be")

    def pairs(self, instruction: Instruction, answers: Sequence[JudgedAnswer]) -> Sequence[Pair | Reject]:
        """Return the pairs of the answers to one instruction, and a reject for everything set aside.

        A policy of one's own overrides this: the answers come in the responders' order, each with its score. Equal
        arguments must give equal results.
        """
        return make_pair(instruction, answers, self)


@dataclass(frozen=True)
class JudgedAnswer:
    """A response with the judge's score (None: the judge had none)."""

    response: Response
    score: float | None


def clean(text: str, instruction: str) -> str:
    """Return an answer without a leading echo of its instruction, and stripped."""
    # responders without a chat template repeat the question first; white space and case may differ
    echo = r"\s+".join(re.escape(word) for word in instruction.split())
    return re.sub(rf"^\s*{echo}\s*", "", text, count=1, flags=re.IGNORECASE).strip() if echo else text.strip()


def fault_of(text: str, instruction: str, policy: PairPolicy) -> tuple[str, str] | None:
    """Return (reason, detail) when a raw answer is unfit to be compared, else None."""
    answer = clean(text, instruction)
    if not answer:
        return ("echo", "only the instruction repeated") if text.strip() else ("empty", "")
    words = _WORD.findall(answer.lower())
    if policy.same_language and (detail := _language_fault(answer, instruction, len(words), policy)):
        return "wrong_language", detail
    if (repeated := repetition(words)) > policy.maximum_repetition:
        return "repetition", f"{repeated:.0%} of its {len(words)} words repeat a sequence said before"
    if len(words) < policy.minimum_words:
        return "too_short", f"{len(words)} words, at least {policy.minimum_words}"
    if len(words) > policy.maximum_words:
        return "too_long", f"{len(words)} words, at most {policy.maximum_words}"
    return None


def repetition(words: Sequence[str], length: int = 4) -> float:
    """Return the share of `length`-word sequences that occurred before; 0 for texts shorter than two of them."""
    sequences = [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
    return 1 - len(set(sequences)) / len(sequences) if len(words) >= 2 * length else 0.0


def similarity(left: str, right: str) -> float:
    """Return the Jaccard similarity of two texts' 3-word sequences (of their words where they are shorter)."""
    sets = []
    shortest = min(3, *(len(_WORD.findall(text)) for text in (left, right)))
    for text in (left, right):
        words = _WORD.findall(text.lower())
        sets.append({tuple(words[start : start + shortest]) for start in range(len(words) - shortest + 1)})
    union = sets[0] | sets[1]
    return len(sets[0] & sets[1]) / len(union) if union else 1.0


def make_pair(instruction: Instruction, answers: Sequence[JudgedAnswer], policy: PairPolicy) -> list[Pair | Reject]:
    """Return the pair of best and worst fit answers, if there is one, and a reject for everything set aside."""
    outcome: list[Pair | Reject] = []
    fit: list[tuple[float, str, Response]] = []
    for answer in answers:
        response, fault = answer.response, fault_of(answer.response.text, instruction.text, policy)
        if fault is None and (answer.score is None or not math.isfinite(answer.score)):
            fault = ("unscored", f"score {answer.score}")
        if fault:
            outcome.append(Reject(response.id, STAGE, *fault))
        else:
            assert answer.score is not None
            fit.append((answer.score, clean(response.text, instruction.text), response))
    if len(fit) < 2:
        outcome.append(Reject(instruction.id, STAGE, "too_few_answers", f"{len(fit)} of {len(answers)} are fit"))
        return outcome
    fit.sort(key=lambda entry: -entry[0])  # stable: of equal scores the earlier responder's goes first
    best_score, chosen, best = fit[0]
    for score, rejected, worst in reversed(fit[1:]):
        likeness = similarity(chosen, rejected)
        if likeness >= policy.near_duplicate:
            same = " ".join(chosen.split()).lower() == " ".join(rejected.split()).lower()
            reason = "duplicate" if same else "near_duplicate"
            outcome.append(Reject(worst.id, STAGE, reason, f"{likeness:.0%} like {best.id}"))
            continue
        margin = best_score - score
        if margin == 0:
            outcome.append(Reject(instruction.id, STAGE, "tie", f"all score {score:.4f}"))
        elif margin < policy.minimum_margin:
            outcome.append(Reject(instruction.id, STAGE, "margin", f"{margin:.4f} < {policy.minimum_margin:.4f}"))
        else:
            identity = content_id("pair", instruction.id, best.id, worst.id)
            outcome.append(
                Pair(identity, instruction.image_id, instruction.text, chosen, rejected, best.id, worst.id, margin)
            )
        return outcome
    outcome.append(Reject(instruction.id, STAGE, "too_few_answers", "all fit answers say the same"))
    return outcome


def _language_fault(answer: str, instruction: str, words: int, policy: PairPolicy) -> str | None:
    """Return why an answer is not in its instruction's language, or None.

    Identification by words needs some of them; the script of the letters settles fragments of one word.
    """
    expected, found = _scripts(instruction), _scripts(answer)
    if expected and found:
        shared = sum(count for script, count in found.items() if script in expected)
        if shared < found.total() / 2:
            return f"written in {found.most_common(1)[0][0].lower()}, asked in {expected.most_common(1)[0][0].lower()}"
    if words >= 8 and len(instruction.split()) >= 5:
        (asked, sure_asked), (answered, sure) = _language_asked(instruction), _identifier().classify(answer)
        if asked != answered and min(sure, sure_asked) >= policy.language_confidence:
            return f"in {answered} ({sure:.0%}), asked in {asked} ({sure_asked:.0%})"
    return None


def _scripts(text: str) -> Counter[str]:
    return Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())


@lru_cache(4096)  # every answer to an instruction asks, and templates stand under many images
def _language_asked(instruction: str) -> tuple[str, float]:
    return _identifier().classify(instruction)


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
