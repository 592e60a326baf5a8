"""AMBER's own files: what is in each image, which words belong together, and which words are never counted.

15,220 questions about 1,004 images: 1,004 to describe one, the others with yes or no as the truth (arXiv 2311.07397).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ..answers.records import InputFile, read_input, read_records

DIMENSIONS = {
    "generative": "generative",
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
}
"""What an annotation's type is called in the results."""

ATTRIBUTES = ("state", "number", "action")
TASKS = {
    "a": ("generative", "existence", *ATTRIBUTES, "relation"),
    "g": ("generative",),
    "d": ("existence", *ATTRIBUTES, "relation"),
    "de": ("existence",),
    "da": ATTRIBUTES,
    "dr": ("relation",),
}
"""The official evaluation types, and the dimensions that each has."""

_SOURCE = "they are in data/ of https://github.com/junyangwang0410/AMBER: name that folder with --data"


@dataclass(frozen=True, slots=True)
class AmberAnnotation:
    """What is known of one question's image.

    `says_no`: the answer is no (of questions with yes or no). `there`: the things in the image, `expected` those that
    models are prone to invent (of descriptions).
    """

    id: int
    dimension: str
    says_no: bool = False
    there: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class AmberData:
    """AMBER's files. `associates`: words that mean a word too; `never`: words that are no hallucination.

    `asked`: question and image by id, where the query file is there.
    """

    annotations: tuple[AmberAnnotation, ...]
    associates: dict[str, tuple[str, ...]]
    never: frozenset[str]
    asked: dict[int, tuple[str, str]]
    sources: dict[str, InputFile]

    @property
    def vocabulary(self) -> frozenset[str]:
        """The words that are looked at in a description."""
        return frozenset(self.associates) | {word for words in self.associates.values() for word in words}


def read_amber(folder: Path) -> AmberData:
    """Read annotations.json, relation.json, safe_words.txt, and query_all.json where it is there, of a folder.

    Raises PrefmillError for a file that is missing, an annotation that is none, and a word without associates.
    """
    sources: dict[str, InputFile] = {}
    if not folder.is_dir():
        raise PrefmillError(f"{folder} does not exist: AMBER's files are needed", _SOURCE)
    file = read_records(_needed(folder, "annotations.json"), "--data", rows="annotations")
    sources["annotations.json"] = file.source
    annotations = tuple(_annotation(one.place, one.fields) for one in file.records)
    text, sources["relation.json"] = _text(folder, "relation.json")
    try:
        associates = {word: tuple(words) for word, words in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise PrefmillError(f"relation.json holds no words with their associates: {error}", _SOURCE) from error
    text, sources["safe_words.txt"] = _text(folder, "safe_words.txt")
    never = frozenset(text.split("\n"))
    for one in annotations:
        if unknown := [word for word in (*one.there, *one.expected) if word not in associates]:
            raise PrefmillError(f"annotation {one.id}: relation.json lacks the word {unknown[0]!r}", _SOURCE)
    if len({one.id for one in annotations}) < len(annotations):
        raise PrefmillError("annotations.json has an id twice", _SOURCE)
    return AmberData(annotations, associates, never, _asked(folder, sources), sources)


def _needed(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise PrefmillError(f"{folder} has no {name}", _SOURCE)
    return folder / name


def _text(folder: Path, name: str) -> tuple[str, InputFile]:
    data, source = read_input(_needed(folder, name), "--data")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n"), source
    except UnicodeDecodeError as error:
        raise PrefmillError(f"{name} is not UTF-8 text", _SOURCE) from error


def _asked(folder: Path, sources: dict[str, InputFile]) -> dict[int, tuple[str, str]]:
    found = [path for path in (folder / "query_all.json", folder / "query" / "query_all.json") if path.is_file()]
    if not found:
        return {}
    file = read_records(found[0], "--data", rows="questions")
    sources["query_all.json"] = file.source
    return {
        int(one.fields.get("id", 0)): (str(one.fields.get("query")), str(one.fields.get("image")))
        for one in file.records
    }


def _annotation(place: str, fields: dict[str, Any]) -> AmberAnnotation:
    name, dimension = fields.get("id"), DIMENSIONS.get(str(fields.get("type")))
    truth, expected = fields.get("truth"), fields.get("hallu", [])
    describes = dimension == "generative"
    fits = isinstance(truth, list) and isinstance(expected, list) if describes else truth in ("yes", "no")
    if not isinstance(name, int) or dimension is None or not fits:
        raise PrefmillError(f"{place}: no annotation of AMBER (id, type, truth)", _SOURCE)
    if describes:
        return AmberAnnotation(name, dimension, there=tuple(map(str, truth or ())), expected=tuple(map(str, expected)))
    return AmberAnnotation(name, dimension, says_no=truth == "no")
