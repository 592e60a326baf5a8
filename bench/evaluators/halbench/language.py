"""Texts to words in their basic form: as NLTK does it for the published numbers, or light, without any data.

The light way knows the plurals of the words that are looked for, and takes a name's last word for its noun. It is
another way and can count otherwise; reports say which one counted.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Protocol

from ....base.errors import PrefmillError

_ENDINGS = (("ches", "ch"), ("shes", "sh"), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ies", "y"), ("men", "man"))
_IRREGULAR = {"knives": "knife", "children": "child", "mice": "mouse", "geese": "goose", "calves": "calf"}
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")


class Language(Protocol):
    """How texts are read; `name` is for reports."""

    name: str

    def words(self, text: str) -> list[str]:
        """Return the basic forms of a text's words, in lower case."""
        ...

    def nouns(self, phrase: str) -> list[str]:
        """Return the nouns of a name, neighbouring ones as one."""
        ...


class LightLanguage:
    """Without NLTK: a word loses its plural where what is left is in the vocabulary."""

    def __init__(self, vocabulary: frozenset[str]) -> None:
        self.name = "light"
        self.vocabulary = vocabulary

    def words(self, text: str) -> list[str]:
        """Return the basic forms of a text's words, in lower case."""
        return [self._basic(word) for word in _WORD.findall(text.lower())]

    def nouns(self, phrase: str) -> list[str]:
        """Return the last word."""
        return [word for word in self.words(phrase) if word[0].isalpha()][-1:]

    def _basic(self, word: str) -> str:
        forms = [word, _IRREGULAR.get(word, word)]
        forms += [word.removesuffix(end) + stem for end, stem in (*_ENDINGS, ("s", "")) if word.endswith(end)]
        return min((form for form in forms if form in self.vocabulary), key=len, default=word)


class NltkLanguage:
    """NLTK's tokenizer, WordNet's basic forms, and its tagger. Raises PrefmillError where one of them is missing."""

    def __init__(self) -> None:
        try:
            import nltk
            from nltk.stem import WordNetLemmatizer
            from nltk.tag.perceptron import PerceptronTagger
        except ImportError as error:
            raise PrefmillError(
                "NLTK is not installed.", "pip install 'prefmill[amber]', or give --light, which counts otherwise"
            ) from error
        self.name = f"nltk-{nltk.__version__}"
        self._tokens = nltk.word_tokenize
        self._lemma = cache(WordNetLemmatizer().lemmatize)
        try:
            self._tagger = PerceptronTagger()
            self.words("Two dogs.")
        except LookupError as error:
            raise PrefmillError(
                "NLTK's data are not here.",
                "python -m nltk.downloader punkt_tab wordnet averaged_perceptron_tagger_eng, or give --light, "
                "which counts otherwise",
            ) from error

    def words(self, text: str) -> list[str]:
        """Return the basic forms of a text's words, in lower case."""
        return [self._lemma(word) for word in self._tokens(text.lower())]

    def nouns(self, phrase: str) -> list[str]:
        """Return the nouns of a name, neighbouring ones as one."""
        runs: list[list[str]] = [[]]
        for word, tag in self._tagger.tag(self._tokens(phrase.lower())):
            if tag in {"NN", "NNS", "NNP", "NNPS"}:
                runs[-1].append(self._lemma(word))
            else:
                runs.append([])
        return [" ".join(run) for run in runs if run]


def language_of(vocabulary: frozenset[str], *, light: bool) -> Language:
    """Return the light way, or NLTK's. Raises PrefmillError where NLTK or its data are missing."""
    return LightLanguage(vocabulary) if light else NltkLanguage()
