"""AMBER from files: answers, annotations, and the numbers of descriptions and of every dimension of yes or no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ....base.errors import PrefmillError
from ....base.hallucination import CHAIR, YES_OR_NO, Share
from ..answers.evaluation import Evaluation, ItemTable, Measure, Term
from ..answers.matching import GivenAnswer, answers_of, match_answers
from ..answers.records import InputFile, read_records
from .counting import LENIENT, STRICT, count_choice, count_description, says_no
from .data import ATTRIBUTES, TASKS, AmberAnnotation, AmberData
from .nouns import Nouns
from .printed import printed_choices, printed_descriptions

_CHOICES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "F1": "f1"}
_DESCRIPTIONS = {
    "CHAIR": CHAIR["chair_i"],
    "Cover": CHAIR["recall"],
    "Hal": CHAIR["chair_s"],
    "Cog": Share("hit", ("expected",)),
}
_TOO_MANY = 0.01  # of answers that are not exactly Yes or No

RULE = (
    "descriptions: of the nouns of AMBER's vocabulary, CHAIR is the share that is not in the image, Cover the share of "
    "the image's things that are named, Hal the share of descriptions with an invented noun, Cog the share of the "
    "things that models are prone to invent that are named. Yes or no: the positive class is 'no'. Numbers as "
    "inference.py of junyangwang0410/AMBER prints them, in percent; intervals are of the shares. AMBER score: (100 - "
    "CHAIR + F1) / 2."
)
VERSION = 1


@dataclass(frozen=True)
class Describing:
    """How descriptions are read. `settings` name it in the report; `inputs` are the files that it needed.

    `official`: as the official script reads them, so that what it prints is stated.
    """

    nouns: Nouns
    alike: Callable[[str, str], bool]
    settings: dict[str, str]
    inputs: dict[str, InputFile]
    official: bool = True
    notes: tuple[str, ...] = ()


def evaluate_amber(
    data: AmberData,
    answers: Path,
    *,
    describing: Callable[[], Describing],
    task: str | None = None,
    reading: str = STRICT,
    partial: bool = False,
) -> Evaluation:
    """Evaluate a file of answers on an official task (`TASKS`), by default the smallest of g, d and a that holds them.

    `describing` is called where there are descriptions. Raises PrefmillError for answers that do not fit the task's
    questions (`match_answers`).
    """
    file = read_records(answers, "--answers")
    given = answers_of(file, texts=("response", "answer", "text"))
    task = task or _task_of(given, data)
    asked = [one for one in data.annotations if one.dimension in TASKS[task]]
    ids = [one.id for one in asked]
    matched = match_answers(given, ids, partial=partial, what=f"task {task}", belongs=_repeats(asked, data))
    pairs = [(one, answer.text or "") for one, answer in zip(asked, matched.answers, strict=True) if answer is not None]
    describes = [one.dimension == "generative" for one, _ in pairs]
    how = describing() if any(describes) else None
    items = _items(pairs, data, how, reading)
    notes = [*(how.notes if how else ()), *_notes(pairs, items, data, reading)]
    settings = {"task": task, "matched by": matched.by}
    settings |= ({} if all(describes) else {"yes or no": reading}) | (how.settings if how else {})
    return Evaluation(
        name="amber",
        title="AMBER",
        rule=RULE,
        version=VERSION,
        settings=settings,
        inputs={**data.sources, **(how.inputs if how else {}), "answers": file.source},
        coverage=matched.coverage,
        measures=_measures(items, described=how is None or how.official, chosen=reading == STRICT),
        items=items,
        counts=_counts(items),
        notes=notes,
    )


def _task_of(given: Sequence[GivenAnswer], data: AmberData) -> str:
    """The task whose questions have the ids that are there; of answers without ids, the one with as many questions."""
    if all(one.id is None for one in given):
        sizes = {task: sum(one.dimension in own for one in data.annotations) for task, own in TASKS.items()}
        fitting = [task for task, size in sizes.items() if size == len(given)]
        if len(fitting) != 1:
            told = ", ".join(f"{task} {size:,}" for task, size in sizes.items())
            raise PrefmillError(f"{len(given):,} answers without ids; the tasks have {told}", "give ids, or --task")
        return fitting[0]
    dimensions = {one.id: one.dimension for one in data.annotations}
    describes = {dimensions[one.id] == "generative" for one in given if one.id in dimensions}
    return {frozenset([True]): "g", frozenset([False]): "d"}.get(frozenset(describes), "a")


def _repeats(asked: Sequence[AmberAnnotation], data: AmberData) -> Callable[[GivenAnswer, int], bool]:
    """Whether what an answer's row repeats of its question is that question's."""

    def belongs(answer: GivenAnswer, place: int) -> bool:
        query, image = data.asked.get(asked[place].id, ("", ""))
        said = [answer.fields.get(name) for name in ("query", "question", "prompt")]
        shown = answer.fields.get("image")
        if image and isinstance(shown, str) and shown and PurePath(shown).stem != PurePath(image).stem:
            return False
        return all(query.lower() in one.lower() for one in said if isinstance(one, str) and one.strip())

    return belongs


def _items(
    pairs: Sequence[tuple[AmberAnnotation, str]], data: AmberData, how: Describing | None, reading: str
) -> ItemTable:
    vocabulary, counts = data.vocabulary, []
    for one, text in pairs:
        if how and one.dimension == "generative":
            nouns = [noun for noun in how.nouns(text) if noun in vocabulary]
            counts.append(count_description(one, nouns, data.associates, data.never, how.alike))
        else:
            counts.append(count_choice(one, text, reading))
    images = [data.asked[one.id][1] if one.id in data.asked else str(one.id) for one, _ in pairs]
    return ItemTable.of([str(one.id) for one, _ in pairs], images, [one.dimension for one, _ in pairs], counts, "wrong")


def _groups(items: ItemTable) -> dict[str, tuple[str, ...]]:
    """The dimensions of every row of the table, for those that were answered."""
    own = set(items.categories)
    groups: dict[str, tuple[str, ...]] = {}
    if set(TASKS["d"]) <= own:
        groups["discriminative"] = TASKS["d"]
    groups |= {"existence": ("existence",)} if "existence" in own else {}
    groups |= {"attribute": ATTRIBUTES} if set(ATTRIBUTES) <= own else {}
    return groups | {name: (name,) for name in (*ATTRIBUTES, "relation") if name in own}


def _measures(items: ItemTable, *, described: bool, chosen: bool) -> list[Measure]:
    """Shares in percent, with what the official script prints of descriptions and of yes or no, read officially."""
    measures = []
    if "generative" in items.categories:
        printed = printed_descriptions(items.columns, items.of_category("generative")) if described else {}
        measures += [
            Measure("generative", name, (Term(share, ("generative",)),), scale=100, official=printed.get(name))
            for name, share in _DESCRIPTIONS.items()
        ]
    for group, dimensions in _groups(items).items():
        masks = [items.of_category(name) for name in dimensions]
        whole = [sum(masks[1:], masks[0])] if group == "discriminative" else masks
        printed = printed_choices(items.columns, whole, group) if chosen else {}
        measures += [
            Measure(group, shown, (Term(YES_OR_NO[name], dimensions),), scale=100, official=printed.get(shown))
            for shown, name in _CHOICES.items()
        ]
    by_name = {(one.group, one.name): one for one in measures}
    chair, f1 = by_name.get(("generative", "CHAIR")), by_name.get(("discriminative", "F1"))
    if chair and f1:
        terms = (Term(chair.terms[0].share, ("generative",), -0.5), Term(f1.terms[0].share, TASKS["d"], 0.5))
        score = None if chair.official is None or f1.official is None else (100 - chair.official + f1.official) / 2
        measures.append(Measure("all", "AMBER score", terms, constant=0.5, scale=100, official=score))
    return measures


def _counts(items: ItemTable) -> dict[str, dict[str, int]]:
    """What the table's shares are made of."""
    shown = {}
    if "generative" in items.categories:
        kept = items.of_category("generative")
        names = {"items": "descriptions", "named": "nouns", "invented": "invented", "inventive": "with invented"}
        names |= {"there": "things", "found": "found", "expected": "expected inventions", "hit": "hit"}
        shown["generative"] = {told: int(items.columns[name][kept].sum()) for name, told in names.items()}
    for group, dimensions in _groups(items).items():
        kept = sum((items.of_category(name) for name in dimensions[1:]), items.of_category(dimensions[0]))
        names = {"items": "questions", "right": "right", "said": "said no", "true": "truly no", "both": "both"}
        names["neither"] = "neither"
        shown[group] = {told: int(items.columns[name][kept].sum()) for name, told in names.items()}
    return shown


def _notes(pairs: Sequence[tuple[AmberAnnotation, str]], items: ItemTable, data: AmberData, reading: str) -> list[str]:
    """What a reader should know of these answers before quoting a number."""
    notes = []
    choices = [text for one, text in pairs if one.dimension != "generative"]
    if reading == LENIENT and choices:
        notes.append("lenient: an answer counts by its first word, which is not the official reading")
    odd = [text for text in choices if says_no(text, STRICT) is None]
    meant = sum(says_no(text, LENIENT) is not None for text in odd)
    if reading == STRICT and len(odd) > _TOO_MANY * len(choices):
        notes.append(
            f"WARNING: {len(odd):,} of {len(choices):,} answers ({len(odd) / len(choices):.1%}) are not exactly Yes or "
            f"No, as {min(odd, key=len)[:30]!r}, and so count as wrong; {meant:,} of them begin with yes or no in "
            "another form, which --reading lenient reads"
        )
    if choices and not items.columns["said"].sum():
        notes.append("no answer says no, so there is no precision: the official script prints 0.0")
    if "generative" in items.categories and not items.columns["named"].sum():
        notes.append("no description names a word of AMBER's vocabulary, so there is no CHAIR")
    if not data.asked:
        notes.append("query_all.json is not there: the intervals take questions about one image as independent")
    return notes
