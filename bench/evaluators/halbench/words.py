"""The objects that a text names, by COCO's 80 nouns: CHAIR's rules, as Object HalBench has them.

A file of synonyms says which words there are (one object a line, its name first: `person, girl, boy, man`). Two words
that are one thing are joined before single words are looked up, so that a home plate is no plate and a baby horse is a
horse. Rules: Rohrbach et al., arXiv 1809.02156, as in RLHF-V/RLAIF-V, eval/eval_gpt_obj_halbench.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ....base.errors import PrefmillError
from ....base.files import read_text
from .language import Language

_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
_AGES = ("baby", "adult")
_VEHICLES = ("jet", "train")
_NO_OBJECTS = ("home plate", "train track")
_ALSO = {"bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass"}
_FIX = "give RLAIF-V's eval/data/synonyms_refine.txt, or a file like it: one object a line, `person, girl, boy`"


@dataclass(frozen=True)
class ObjectWords:
    """The words for objects: `objects` by word, `pairs` what two neighbouring words are joined to."""

    objects: dict[str, str]
    pairs: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> ObjectWords:
        """Read a file of synonyms. Raises PrefmillError for one that is missing, no text, or without a synonym."""
        text = read_text(path, _FIX)
        if text is None:
            raise PrefmillError(f"{path} does not exist.", _FIX)
        lines = [[word.strip() for word in line.split(",")] for line in text.lstrip("\ufeff").splitlines()]
        objects = {word: line[0] for line in lines for word in line if word and line[0]}
        if not objects or all(len(line) < 2 for line in lines):
            raise PrefmillError(f"{path} holds no synonyms.", _FIX)
        pairs = {word: word for word in (*objects, *_NO_OBJECTS) if " " in word}
        pairs |= {f"{age} {animal}": animal for age in _AGES for animal in _ANIMALS}
        pairs |= {f"passenger {vehicle}": vehicle for vehicle in _VEHICLES}
        return cls(objects, pairs | _ALSO)

    @property
    def vocabulary(self) -> frozenset[str]:
        """Every single word that some rule looks for."""
        return frozenset(word for words in (*self.objects, *self.pairs) for word in words.split()) | {"toilet", "seat"}

    def named(self, text: str, language: Language) -> list[str]:
        """Return the object of every mention in a text, in the text's order."""
        return self._known(self._joined(language.words(text)))

    def of_phrases(self, phrases: Sequence[str], language: Language) -> list[str]:
        """Return the objects that names are, each name once: what an extractor's list comes to."""
        found: dict[str, None] = {}
        for phrase in phrases:
            lemmas = language.words(f"a {phrase}")
            joined = self._pairs_only(lemmas)
            found |= dict.fromkeys(joined or language.nouns(f"a {phrase}"))
        return self._known(list(found))

    def _known(self, words: list[str]) -> list[str]:
        if "toilet" in words and "seat" in words:  # "the seat of the toilet" is no chair
            words = [word for word in words if word != "seat"]
        return [self.objects[word] for word in words if word in self.objects]

    def _joined(self, words: Sequence[str]) -> list[str]:
        joined, place = [], 0
        while place < len(words):
            both = " ".join(words[place : place + 2])
            joined.append(self.pairs.get(both, words[place]))
            place += 2 if both in self.pairs else 1
        return joined

    def _pairs_only(self, words: Sequence[str]) -> list[str]:
        joined, place = [], 0
        while place < len(words):
            both = " ".join(words[place : place + 2])
            if both in self.pairs:
                joined.append(self.pairs[both])
            place += 2 if both in self.pairs else 1
        return joined
