"""The nouns of a description: NLTK's, as the official script takes them, or a light reading without NLTK."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from ....base.errors import PrefmillError

Nouns = Callable[[str], list[str]]
"""Nouns of a text in their base form, one for every mention, in the text's order."""

_DATA = ("punkt_tab", "averaged_perceptron_tagger_eng", "wordnet")
_WORD = re.compile(r"[A-Za-z]+")


def nltk_nouns() -> tuple[Nouns, str]:
    """Return the official nouns, and the version of NLTK: words tagged NN*, lemmatised.

    The same calls as the official script's, with tagger and lemmas kept between texts. Raises PrefmillError where NLTK
    or its data is not there, with the command that gets it.
    """
    try:
        import nltk
        from nltk.stem import WordNetLemmatizer
        from nltk.tag.perceptron import PerceptronTagger
    except ImportError as error:
        raise PrefmillError(
            "AMBER's descriptions need NLTK, which is not installed",
            "pip install 'prefmill[amber]', or give --light for a reading without it, which is not the official one",
        ) from error
    lemmatizer = WordNetLemmatizer()
    lemma = cache(lemmatizer.lemmatize)
    try:
        tagger = PerceptronTagger()
        nltk.word_tokenize("a")
        lemma("a")
    except LookupError as error:
        raise PrefmillError(
            f"NLTK's data is not there (it looks in {', '.join(nltk.data.path[:2])} ...)",
            f"python -m nltk.downloader {' '.join(_DATA)}; or give --light, which is not the official reading",
        ) from error

    def nouns(text: str) -> list[str]:
        return [lemma(word) for word, tag in tagger.tag(nltk.word_tokenize(text)) if tag.startswith("NN")]

    return nouns, nltk.__version__


def light_nouns(vocabulary: frozenset[str]) -> Nouns:
    """Return a reading without tags and lemmas: every word that is of the vocabulary, or its plural by spelling.

    It also takes words of the vocabulary that are no nouns in their sentence ("they stand", "orange shirt").
    """

    @cache
    def base(word: str) -> str | None:
        return next((one for one in _singular(word) if one in vocabulary), None)

    def nouns(text: str) -> list[str]:
        found = (base(word) or base(word.lower()) for word in _WORD.findall(text))
        return [word for word in found if word]

    return nouns


def _singular(word: str) -> list[str]:
    """What a word may be the plural of, itself first."""
    forms = [word, _IRREGULAR.get(word, word)]
    for ending, instead in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            forms.append(word.removesuffix(ending) + instead)
    return forms


_IRREGULAR = {"men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth", "geese": "goose"}
_IRREGULAR |= {"mice": "mouse", "policemen": "policeman", "firemen": "fireman", "leaves": "leave"}
