"""Words, and what can be said of texts by their words alone: how long, how repetitive, how alike. All of it is linear.

Chinese, Japanese, Thai, Lao, Khmer and Burmese write no spaces between words: there every letter counts as one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
_WINDOW = 4  # words of a sequence that may repeat
_FEW = 4  # words from which saying one of them again and again can be told


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def repetition(words: Sequence[str]) -> float:
    """Return the share of 4-word sequences that occurred before; 0 for texts shorter than two of them."""
    sequences = [tuple(words[start : start + _WINDOW]) for start in range(len(words) - _WINDOW + 1)]
    return 1 - len(set(sequences)) / len(sequences) if len(words) >= 2 * _WINDOW else 0.0


def monotony(words: Sequence[str]) -> float:
    """Return the share of the most frequent word; 0 for texts of fewer than four words."""
    return Counter(words).most_common(1)[0][1] / len(words) if len(words) >= _FEW else 0.0


def similarity(left: str, right: str) -> float:
    """Return the Jaccard similarity of two texts' 3-word sequences (of their words where they are shorter)."""
    return likeness(words_of(left), words_of(right))


def likeness(left: Sequence[str], right: Sequence[str]) -> float:
    """Return the similarity of two texts, given as their words."""
    length = min(3, len(left), len(right))
    first, second = (
        {tuple(words[start : start + length]) for start in range(len(words) - length + 1)} for words in (left, right)
    )
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def length_ratio(left: Sequence[str], right: Sequence[str]) -> float:
    """Return how many times the words of the shorter the longer has; an empty text counts as one word."""
    shorter, longer = sorted((max(len(left), 1), max(len(right), 1)))
    return longer / shorter
