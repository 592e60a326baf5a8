"""How alike two words of AMBER's vocabulary are: a table that is computed once from spaCy's vectors, and a file of it.

The official script asks en_core_web_lg (600 MB) for every pair anew. Its words are few hundred, so all pairs fit a
file, which an evaluation reads without spaCy:

    # en_core_web_lg 3.8.0
    sky<TAB>grass<TAB>0.4837...
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ....base.files import make_folder, write_text
from ..answers.records import InputFile, read_input

OFFICIAL_MODEL = "en_core_web_lg"
ALIKE = 0.8
"""Words are near-synonyms above this similarity (--similarity_score of the official script)."""

_COMPUTE = "compute the table with: prefmill eval amber-similarity --to similarity.tsv"


@dataclass(frozen=True)
class SimilarityTable:
    """Which pairs of known words are near-synonyms. `model`: whose vectors say so."""

    model: str
    alike: frozenset[tuple[str, str]]
    source: InputFile

    def __call__(self, one: str, other: str) -> bool:
        """Return whether two words are near-synonyms; a word is its own."""
        return one == other or (one, other) in self.alike or (other, one) in self.alike


def read_similarity(path: Path, vocabulary: frozenset[str]) -> SimilarityTable:
    """Read a table. Raises PrefmillError, with the line, for what is no pair, and where a pair of words is missing."""
    data, source = read_input(path, "--similarity")
    try:
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise PrefmillError(f"{path} is not UTF-8 text", _COMPUTE) from error
    model, found = "", dict[tuple[str, str], float]()
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            model = model or line.removeprefix("#").strip()
        elif line.strip():
            one, other, value = _pair(line, f"{path.name}:{number}")
            found[min(one, other), max(one, other)] = value
    for pair in combinations(sorted(vocabulary), 2):
        if pair not in found:
            raise PrefmillError(f"{path} lacks the pair {pair[0]!r} and {pair[1]!r}", _COMPUTE)
    if not model:
        raise PrefmillError(f"{path} does not say which model it is of", f"begin it with a line '# {OFFICIAL_MODEL}'")
    return SimilarityTable(model, frozenset(pair for pair, value in found.items() if value > ALIKE), source)


def write_similarity(path: Path, vocabulary: Iterable[str], pipeline: Any, model: str) -> int:
    """Write the similarities of all pairs of words by a spaCy pipeline; return how many pairs.

    Raises PrefmillError for a pipeline without vectors, whose similarities mean nothing.
    """
    words = sorted(vocabulary)
    documents = {word: pipeline(word) for word in words}
    if not any(document.has_vector for document in documents.values()):
        raise PrefmillError(f"{model} has no vectors of words", f"give --model {OFFICIAL_MODEL}")
    rows = [
        f"{one}\t{other}\t{float(documents[one].similarity(documents[other]))!r}"
        for one, other in combinations(words, 2)
    ]
    make_folder(path.parent)
    write_text(path, "\n".join([f"# {model}", *rows]) + "\n")
    return len(rows)


def spacy_pipeline(model: str) -> tuple[Any, str]:
    """Return a spaCy pipeline and its name with version. Raises PrefmillError where spaCy or the model is missing."""
    try:
        import spacy  # pyright: ignore[reportMissingImports]

        pipeline = spacy.load(model)
    except (ImportError, OSError) as error:
        raise PrefmillError(
            f"{model} cannot be loaded: {str(error).splitlines()[0]}",
            f"pip install spacy; python -m spacy download {model} (a Python of its own does, the table is a file)",
        ) from error
    return pipeline, f"{pipeline.meta['lang']}_{pipeline.meta['name']} {pipeline.meta['version']}"


def _pair(line: str, place: str) -> tuple[str, str, float]:
    parts = line.split("\t")
    try:
        one, other, value = parts[0], parts[1], float(parts[2])
    except (IndexError, ValueError) as error:
        raise PrefmillError(f"{place}: no word, word and similarity with tabs between them", _COMPUTE) from error
    if len(parts) != 3 or not math.isfinite(value):
        raise PrefmillError(f"{place}: {parts[2][:20]!r} is no similarity of two words", _COMPUTE)
    return one, other, value
