"""Is an answer an answer? One that is not goes no further, with one of these reasons:

empty            nothing was said                    echo            only the instruction was repeated
artifact         markers, markup, broken text        wrong_language  not the instruction's language
repetition       the same words over and over        generic         would fit any image: a refusal, a courtesy
too_short, too_long   outside the word limits
"""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import Field

from ...base.settings import Settings
from .artifacts import artifact_in
from .generic import generic_share
from .language import language_fault
from .words import likeness, monotony, repetition, words_of

_ECHO = 0.9  # likeness to the instruction from which an answer only repeats it


class AnswerLimits(Settings):
    """The limits of one answer; the defaults are chosen for free-form answers of a few words to a few paragraphs."""

    minimum_words: int = Field(default=2, ge=1)
    maximum_words: int = Field(default=600, ge=1)
    maximum_repetition: float = Field(
        default=0.5, ge=0, le=1, description="share of 4-word sequences said before, and of one word among all"
    )
    maximum_generic: float = Field(
        default=0.5, ge=0, le=1, description="share of words in sentences that would fit any image"
    )
    refuse_artifacts: bool = Field(default=True, description="no chat markers, special tokens, markup or broken text")
    same_language: bool = Field(default=True, description="answers must be in the instruction's language")
    language_confidence: float = Field(default=0.9, gt=0, le=1, description="how sure the identification must be")


def clean(text: str, instruction: str) -> str:
    """Return an answer without leading echoes of its instruction, and stripped."""
    echo = _echoes(instruction)
    return echo.sub("", text, count=1).strip() if echo else text.strip()


@lru_cache(maxsize=64)
def _echoes(instruction: str) -> re.Pattern[str] | None:
    # responders without a chat template repeat the question first; white space and case may differ
    echo = r"\s+".join(re.escape(word) for word in instruction.split())
    return re.compile(rf"^\s*(?:{echo}\s*)+", re.IGNORECASE) if echo else None


def fault_of(text: str, instruction: str, limits: AnswerLimits) -> tuple[str, str] | None:
    """Return (reason, detail) when a raw answer is unfit to be compared, else None. Takes time linear in its length."""
    answer = clean(text, instruction)
    if not answer:
        return ("echo", "only the instruction repeated") if text.strip() else ("empty", "")
    if limits.refuse_artifacts and (trace := artifact_in(answer)):
        return "artifact", f"holds {trace}"
    words = words_of(answer)
    if limits.same_language and (detail := language_fault(answer, instruction, limits.language_confidence)):
        return "wrong_language", detail
    if words and (same := likeness(words, words_of(instruction))) >= _ECHO:
        return "echo", f"{same:.0%} like the instruction"
    if (repeated := repetition(words)) > limits.maximum_repetition:
        return "repetition", f"{repeated:.0%} of its {len(words)} words repeat a sequence said before"
    if (share := monotony(words)) > limits.maximum_repetition:
        return "repetition", f"{share:.0%} of its {len(words)} words are one word"
    if len(words) < limits.minimum_words:
        return "too_short", f"{len(words)} words, at least {limits.minimum_words}"
    if len(words) > limits.maximum_words:
        return "too_long", f"{len(words)} words, at most {limits.maximum_words}"
    if (share := generic_share(answer)) > limits.maximum_generic:
        return "generic", f"{share:.0%} of its words would fit any image"
    return None
