"""POPE's question files: one per category with labels, and LLaVA's one file of all categories without.

The official random file has 3,000 questions, the older one, which LLaVA's numbers are of, has 2,910 with other ids for
the same questions: the count is the file's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....base.errors import PrefmillError
from ..answers.matching import Id, id_of
from ..answers.records import FileRecord, InputFile, read_records

CATEGORIES = ("random", "popular", "adversarial")

_SOURCE = "they are in output/coco of https://github.com/RUCAIBox/POPE: name them, or their folder, with --questions"


@dataclass(frozen=True, slots=True)
class ObjectQuestion:
    """Whether something is in an image. `truth`: it is."""

    id: Id
    image: str
    text: str
    truth: bool
    category: str


@dataclass(frozen=True)
class ObjectQuestions:
    """The questions by category. `together`: their ids are of one file, so that an id tells the category too."""

    by_category: dict[str, list[ObjectQuestion]]
    sources: dict[str, InputFile]
    together: bool


def read_questions(paths: Sequence[Path]) -> ObjectQuestions:
    """Read question files, or all of a folder, whose names or rows say their category.

    Rows with a category and no label (LLaVA's `llava_pope_test.jsonl`) take their labels from the other files, by
    category, image and text; then ids are theirs. Raises PrefmillError for files that are missing, for a row without
    what is needed, an id twice, and a question without a label.
    """
    labelled: dict[str, list[ObjectQuestion]] = {}
    unlabelled: list[FileRecord] = []
    sources: dict[str, InputFile] = {}
    for path in _files(paths):
        file = read_records(path, "--questions", rows="questions")
        named = category_in(path.name)
        for one in file.records:
            if "label" not in one.fields:
                unlabelled.append(one)
                continue
            category = str(one.fields.get("category") or named or "")
            if not category:
                raise PrefmillError(
                    f"{one.place}: the category is not told", f"name the file coco_pope_{'|'.join(CATEGORIES)}.json"
                )
            labelled.setdefault(category, []).append(_question(one, category))
        sources[f"questions {file.name}"] = file.source
    if unlabelled:
        labelled = _joined(unlabelled, labelled)
    if not labelled:
        raise PrefmillError("the question files hold no labels", _SOURCE)
    together = _check_ids(labelled) and bool(unlabelled)
    ordered = sorted(labelled, key=lambda name: CATEGORIES.index(name) if name in CATEGORIES else len(CATEGORIES))
    return ObjectQuestions({name: labelled[name] for name in ordered}, sources, together)


def category_in(name: str) -> str | None:
    """Return the one category that a file's name holds."""
    found = [category for category in CATEGORIES if category in name.lower()]
    return found[0] if len(found) == 1 else None


def first_line(text: str) -> str:
    """Return a question without the line that tells a model how to answer, and without outer spaces and case."""
    return text.strip().split("\n", 1)[0].strip().lower()


def check_version(questions: Sequence[ObjectQuestion], answered: Iterable[Id | None]) -> None:
    """Raise PrefmillError where answers to the random questions are by their ids those of the file's other version."""
    older, newer = set(range(1, 2911)), set(range(2911, 3001))
    ids, own = set(answered), {one.id for one in questions}
    extra = 2 * len(ids & newer) > len(newer)
    if (own == older and extra) or (own == older | newer and ids == older):
        raise PrefmillError(
            f"the answers are to the random file of {'3,000' if extra else '2,910'} questions, the questions are of "
            f"the one of {len(own):,}, which has other questions under the same ids",
            "give the question file that was answered",
        )


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise PrefmillError(f"{path} does not exist: POPE's questions are needed", _SOURCE)
        here = sorted(path.iterdir()) if path.is_dir() else []
        inside = [one for one in here if "pope" in one.name and ".json" in one.name]
        if path.is_dir() and not inside:
            raise PrefmillError(f"{path} holds no question files of POPE (*pope_{CATEGORIES[0]}.json)", _SOURCE)
        found += inside or [path]
    return found


def _question(record: FileRecord, category: str) -> ObjectQuestion:
    fields = record.fields
    name, label = id_of(record), fields["label"]
    if name is None or not isinstance(fields.get("image"), str) or not isinstance(fields.get("text"), str):
        raise PrefmillError(f"{record.place}: no question_id, image or text", "give POPE's question files")
    if not isinstance(label, str) or label.strip().lower() not in ("yes", "no"):
        raise PrefmillError(f"{record.place}: the label {str(label)[:20]!r} is neither yes nor no", "correct this row")
    return ObjectQuestion(name, fields["image"], fields["text"], label.strip().lower() == "yes", category)


def _joined(rows: Sequence[FileRecord], labelled: dict[str, list[ObjectQuestion]]) -> dict[str, list[ObjectQuestion]]:
    truths = {
        (category, one.image, first_line(one.text)): one.truth for category, own in labelled.items() for one in own
    }
    found: dict[str, list[ObjectQuestion]] = {}
    for row in rows:
        category, image, text = (str(row.fields.get(name) or "") for name in ("category", "image", "text"))
        name, truth = id_of(row), truths.get((category, image, first_line(text)))
        if name is None or not category:
            raise PrefmillError(f"{row.place}: no label, and no id or category either", _SOURCE)
        if truth is None:
            raise PrefmillError(
                f"{row.place}: no label for this {category} question about {image}",
                f"give the question files of the same version (2,910 or 3,000 random questions); {_SOURCE}",
            )
        found.setdefault(category, []).append(ObjectQuestion(name, image, text, truth, category))
    return found


def _check_ids(by_category: dict[str, list[ObjectQuestion]]) -> bool:
    """Return whether no two questions have one id. Raises PrefmillError for an id twice in one category."""
    for category, own in by_category.items():
        seen: set[Id] = set()
        for one in own:
            if one.id in seen:
                raise PrefmillError(
                    f"{category}: the question id {one.id!r} occurs twice",
                    "give every question file once, in one version",
                )
            seen.add(one.id)
    ids = [one.id for own in by_category.values() for one in own]
    return len(set(ids)) == len(ids)
