"""Is an answer in its instruction's language? By the script of its letters, and by its words where there are enough."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache, lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from .words import words_of

_READ = 10_000  # characters that identification looks at


def language_fault(answer: str, instruction: str, confidence: float) -> str | None:
    """Return why an answer is not in its instruction's language, or None. `confidence`: how sure both must be.

    Identification by words needs some of them; the script of the letters settles fragments of one word.
    """
    expected, found = _scripts(instruction), _scripts(answer)
    if expected and found:
        shared = sum(count for script, count in found.items() if script in expected)
        if shared < found.total() / 2:
            return f"written in {found.most_common(1)[0][0].lower()}, asked in {expected.most_common(1)[0][0].lower()}"
    if len(words_of(answer)) >= 8 and len(words_of(instruction)) >= 5:
        (asked, sure_asked), (answered, sure) = _language_asked(instruction), _identifier().classify(answer[:_READ])
        if asked != answered and min(sure, sure_asked) >= confidence:
            return f"in {answered} ({sure:.0%}), asked in {asked} ({sure_asked:.0%})"
    return None


def _scripts(text: str) -> Counter[str]:
    scripts: Counter[str] = Counter()
    for letter, count in Counter(text).items():
        if letter.isalpha():
            scripts[unicodedata.name(letter, "?").split()[0]] += count
    return scripts


@lru_cache(4096)  # every answer to an instruction asks, and templates stand under many images
def _language_asked(instruction: str) -> tuple[str, float]:
    return _identifier().classify(instruction[:_READ])


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
