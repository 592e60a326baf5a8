"""What one answer to AMBER adds to the counts, by the official rule (inference.py of junyangwang0410/AMBER)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ....base.hallucination import yes_or_no_counts
from .data import AmberAnnotation

STRICT, LENIENT = "strict", "lenient"

COUNTS = (
    *("items", "right", "true", "said", "both", "neither"),
    *("named", "invented", "inventive", "there", "found", "expected", "hit", "wrong"),
)

_FIRST = re.compile(r"[^\w]*(yes|no)\b", re.IGNORECASE)


def says_no(answer: str, reading: str) -> bool | None:
    """Return whether an answer says no; None where neither yes nor no.

    strict: it is exactly "No" or "Yes" (official). lenient: its first word is, in any case.
    """
    if reading == STRICT:
        return {"No": True, "Yes": False}.get(answer)
    found = _FIRST.match(answer)
    return None if found is None else found[1].lower() == "no"


def count_choice(annotation: AmberAnnotation, answer: str, reading: str) -> dict[str, float]:
    """Return the counts of an answer to a question with yes or no. The positive class is "no"."""
    said = says_no(answer, reading)
    [counts] = yes_or_no_counts([said], [annotation.says_no])
    return {**dict.fromkeys(COUNTS, 0), **counts, "neither": said is None, "wrong": not counts["right"]}


def count_description(
    annotation: AmberAnnotation,
    nouns: Sequence[str],
    associates: Mapping[str, Sequence[str]],
    never: frozenset[str],
    alike: Callable[[str, str], bool],
) -> dict[str, float]:
    """Return the counts of a description whose nouns of the vocabulary are given, one for every mention.

    A noun that is a thing of the image, or its associate, finds the first thing it belongs to, associates before the
    things themselves. Otherwise it hits the things that models are prone to invent, by the word itself and by the
    first near-synonym; and it is invented, unless it is a near-synonym of a thing of the image, which it then finds.
    """
    there, expected = _words(annotation.there, associates), _words(annotation.expected, associates)
    first_there, first_expected = _first(there), _first(expected)
    found: set[int] = set()
    hit: set[int] = set()
    invented = 0
    for noun in nouns:
        if noun in never:
            continue
        if noun in first_there:
            found.add(first_there[noun])
            continue
        if noun in first_expected:
            hit.add(first_expected[noun])
        if (place := _near(noun, expected, alike)) is not None:
            hit.add(place)
        if (place := _near(noun, there, alike)) is not None:
            found.add(place)
        else:
            invented += 1
    counts = {"named": len(nouns), "invented": invented, "inventive": invented > 0, "wrong": invented > 0}
    counts |= {"there": len(annotation.there), "found": len(found)}
    counts |= {"expected": len(annotation.expected), "hit": len(hit)}
    return {**dict.fromkeys(COUNTS, 0), "items": 1, **counts}


def _words(things: Sequence[str], associates: Mapping[str, Sequence[str]]) -> list[tuple[str, int]]:
    """Every word that means one of the things, with the thing's place, in the official order."""
    related = [(word, place) for place, thing in enumerate(things) for word in associates[thing]]
    return related + [(thing, place) for place, thing in enumerate(things)]


def _first(words: Sequence[tuple[str, int]]) -> dict[str, int]:
    places: dict[str, int] = {}
    for word, place in words:
        places.setdefault(word, place)
    return places


def _near(noun: str, words: Sequence[tuple[str, int]], alike: Callable[[str, str], bool]) -> int | None:
    return next((place for word, place in words if alike(noun, word)), None)
