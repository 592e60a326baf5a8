"""A grammar that writes: rules by name, alternatives of a rule, and a number that chooses among them.

    scene: ["a(n) {animal} {place}, {light}"]
    animal: [otter, heron]

`{name}` stands for a rule, `a(n)` for the article that the next word needs. A text follows from a number alone: each
choice takes the number's remainder and leaves its quotient, so the same number writes the same text on every machine
and in every version of Python, and every alternative of a rule is equally likely. A rule that a text uses twice takes
another alternative the second time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from functools import cache
from math import prod
from typing import Any

from ...base.errors import PrefmillError

_RULE = re.compile(r"\{([^{}]*)\}")
_ARTICLE = re.compile(r"\b([Aa])\(n\)(\s+)(\w*)")
_SOUNDS_LIKE_A_CONSONANT = re.compile(r"(?:uni|use|usu|euro|ewe|one\b|once\b|u-)", re.IGNORECASE)
_SOUNDS_LIKE_A_VOWEL = re.compile(r"(?:hour|heir|honest|honou?r)", re.IGNORECASE)


class Grammar:
    """Rules, checked: each has alternatives, every name in them is a rule, and none leads back to itself.

    Raises PrefmillError, naming the `origin`, where that is not so.
    """

    def __init__(self, rules: Mapping[str, Any], origin: str, given: Collection[str] = ()) -> None:
        """`given`: names that are filled with a text each time."""
        self.origin, self.given = origin, frozenset(given)
        self.rules: dict[str, tuple[str, ...]] = {}
        for name, alternatives in rules.items():
            listed = isinstance(alternatives, list) and alternatives
            if not listed or not all(isinstance(one, str) and one.strip() for one in alternatives):
                raise PrefmillError(f"{origin}: the rule {name!r} is not a list of texts", "give it alternatives")
            self.rules[name] = tuple(alternatives)
        for name in self.rules:
            self._check(name, ())

    def _check(self, name: str, above: tuple[str, ...]) -> None:
        if name in self.given:
            return
        if name not in self.rules:
            raise PrefmillError(f"{self.origin}: there is no rule {name!r}, which {above[-1]!r} uses", "write it")
        if name in above:
            raise PrefmillError(f"{self.origin}: the rule {name!r} leads back to itself", "break the circle")
        for alternative in self.rules[name]:
            for used in _RULE.findall(alternative):
                self._check(used, (*above, name))

    def size(self, rule: str) -> int:
        """Return how many choices there are for a rule's text, at most: what may not come twice is not taken off."""

        @cache
        def count(name: str) -> int:
            if name in self.given:
                return 1
            return sum(prod(map(count, _RULE.findall(one))) for one in self.rules[name])

        return count(rule)

    def write(self, rule: str, number: int, given: Mapping[str, str] | None = None) -> str:
        """Return the text that a number makes of a rule."""
        texts = given or {}
        used: dict[str, set[str]] = {}

        def expand(name: str) -> str:
            nonlocal number
            if name in texts:
                return texts[name]
            left = [one for one in self.rules[name] if one not in used.get(name, ())] or self.rules[name]
            number, chosen = divmod(number, len(left))
            used.setdefault(name, set()).add(left[chosen])
            return _RULE.sub(lambda found: expand(found[1]), left[chosen])

        return with_articles(expand(rule))


def number_for(*parts: str | int) -> int:
    """Return a number of 512 bits that depends on its parts: room for the choices of any text."""
    return int.from_bytes(hashlib.sha512("\0".join(map(str, parts)).encode()).digest(), "big")


def with_articles(text: str) -> str:
    """Return a text with each `a(n)` as the sound of the next word wants it."""
    return _ARTICLE.sub(lambda found: f"{found[1]}{_n(found[3])}{found[2]}{found[3]}", text)


def _n(word: str) -> str:
    vowel = word[:1].lower() in set("aeiou") and not _SOUNDS_LIKE_A_CONSONANT.match(word)
    return "n" if vowel or _SOUNDS_LIKE_A_VOWEL.match(word) else ""
