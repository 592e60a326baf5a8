"""POPE from files: questions, answers, and the numbers of every category and of their mean."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path, PurePath

from ....base.errors import PrefmillError
from ....base.hallucination import yes_or_no_counts
from ..answers.evaluation import Evaluation, ItemTable, Measure, Term, value_of
from ..answers.matching import GivenAnswer, Match, Matched, answers_of, match_answers
from ..answers.records import InputFile, read_records
from .questions import CATEGORIES, ObjectQuestion, ObjectQuestions, category_in, check_version, first_line
from .rule import OFFICIAL, PopeRule

MEAN, ALL = "mean of three", "all together"
_YES_OR_NO = re.compile(r"\b(yes|no|not)\b", re.IGNORECASE)


def evaluate_pope(
    questions: ObjectQuestions,
    answers: Sequence[tuple[Path, str | None]],
    rule: PopeRule,
    *,
    by: Match | None = None,
    partial: bool = False,
) -> Evaluation:
    """Evaluate files of answers, each with the category that it is of, or None where its name or its rows say so.

    Raises PrefmillError for answers that do not fit the questions (`match_answers`) and of no category.
    """
    given, inputs = _read(questions, answers)
    asked: list[ObjectQuestion] = []
    said: list[GivenAnswer] = []
    matches: list[Matched] = []
    notes: list[str] = []
    for category, rows in given.items():
        own = [one for name, each in questions.by_category.items() if category in (name, ALL) for one in each]
        belongs = _repeats(own)
        if category == "random" and by != "order":
            check_version(own, (one.id for one in rows))
        matches.append(
            match_answers(rows, [one.id for one in own], by=by, partial=partial, what=category, belongs=belongs)
        )
        pairs = [(one, answer) for one, answer in zip(own, matches[-1].answers, strict=True) if answer is not None]
        asked += [one for one, _ in pairs]
        said += [answer for _, answer in pairs]
        if by == "order" and (others := sum(answer.id not in (None, one.id) for one, answer in pairs)):
            notes.append(f"{category}: by order, against the ids of {others:,} answers")
    items = _items(asked, said, rule)
    found = [name for name in questions.by_category if name in set(items.categories)]
    return Evaluation(
        name="pope",
        title="POPE",
        rule=rule.text,
        version=rule.version,
        settings={"rule": rule.name, "matched by": " and ".join(sorted({one.by for one in matches}))},
        inputs=questions.sources | inputs,
        coverage=reduce(operator.add, (one.coverage for one in matches)),
        measures=_measures(found, rule, items),
        items=items,
        counts={name: _confusion(items, name) for name in found},
        notes=[*notes, *_notes(found, items, said, rule)],
    )


def _read(
    questions: ObjectQuestions, answers: Sequence[tuple[Path, str | None]]
) -> tuple[dict[str, list[GivenAnswer]], dict[str, InputFile]]:
    """The answers by category, or all of them where ids tell it, and the files they are from."""
    given: dict[str, list[GivenAnswer]] = {}
    inputs: dict[str, InputFile] = {}
    only = next(iter(questions.by_category)) if len(questions.by_category) == 1 else None
    for path, named in answers:
        file = read_records(path, "--answers")
        inputs[f"answers {path}"] = file.source
        for one in answers_of(file):
            category = (
                ALL if questions.together else named or one.fields.get("category") or category_in(path.name) or only
            )
            if category != ALL and category not in questions.by_category:
                known = ", ".join(questions.by_category)
                raise PrefmillError(
                    f"{one.place}: {f'there are no {category} questions' if category else 'the category is not told'}",
                    f"write --answers CATEGORY={path}, or give rows a category ({known})",
                )
            given.setdefault(str(category), []).append(one)
    ordered = {name: given[name] for name in (*questions.by_category, ALL) if name in given}
    return ordered, inputs


def _repeats(questions: Sequence[ObjectQuestion]) -> Callable[[GivenAnswer, int], bool]:
    """Whether what an answer's row repeats of its question is that question's: two versions have the same ids."""

    def belongs(answer: GivenAnswer, place: int) -> bool:
        question = questions[place]
        if answer.text is not None and first_line(answer.text) == first_line(question.text):
            return False  # a file of questions, or of rows whose text is the question
        names = ("question", "prompt", "query", *(("text",) if {"answer", "response"} & answer.fields.keys() else ()))
        repeated = (answer.fields.get(name) for name in names)
        texts = [one.lower() for one in repeated if isinstance(one, str) and one.strip()]
        image = answer.fields.get("image")
        same_image = not isinstance(image, str) or not image or PurePath(image).stem == PurePath(question.image).stem
        return same_image and all(first_line(question.text) in text for text in texts)

    return belongs


def _items(asked: Sequence[ObjectQuestion], said: Sequence[GivenAnswer], rule: PopeRule) -> ItemTable:
    read = [rule.said(answer.text or "") for answer in said]
    truths = [one.truth for one in asked]
    counts: list[dict[str, float]] = []
    for one, yes, truth in zip(yes_or_no_counts(read, truths), read, truths, strict=True):
        counts.append({**one, "denied": yes is False and truth, "neither": yes is None, "wrong": not one["right"]})
    ids = [f"{one.category}/{one.id}" for one in asked]
    return ItemTable.of(ids, [one.image for one in asked], [one.category for one in asked], counts, "wrong")


def _measures(found: Sequence[str], rule: PopeRule, items: ItemTable) -> list[Measure]:
    """The measures of every category; then the means of three, or lmms-eval's over all questions together."""
    of: dict[str, tuple[str, ...]] = {category: (category,) for category in found}
    if rule.name != OFFICIAL and len(found) > 1:
        of[ALL] = ()
    measures = []
    for group, categories in of.items():
        for name, share in rule.measures.items():
            one = Measure(group, name, (Term(share, categories),))
            measures.append(replace(one, official=rule.empty) if value_of(one, items) is None else one)
    if rule.name == OFFICIAL and set(CATEGORIES) <= set(found):
        for name, share in rule.measures.items():
            terms = tuple(Term(share, (category,), 1 / len(CATEGORIES)) for category in CATEGORIES)
            measures.append(Measure(MEAN, name, terms))
    return measures


def _confusion(items: ItemTable, category: str) -> dict[str, int]:
    kept = items.of_category(category)
    sums = {name: int(column[kept].sum()) for name, column in items.columns.items()}
    found = {
        "questions": sums["items"],
        "TP": sums["both"],
        "FP": sums["said"] - sums["both"],
        "TN": sums["right"] - sums["both"],
        "FN": sums["denied"],
    }
    return found | ({"neither": sums["neither"]} if sums["neither"] else {})


def _notes(found: Sequence[str], items: ItemTable, said: Sequence[GivenAnswer], rule: PopeRule) -> list[str]:
    """What a reader should know of these answers before quoting a number."""
    notes = []
    if missing := [name for name in CATEGORIES if name not in found]:
        notes.append(f"no answers to the {' and '.join(missing)} questions: there is no mean of three")
    neither = sum(_YES_OR_NO.search(answer.text or "") is None for answer in said)
    if rule.name == OFFICIAL and neither:
        notes.append(f"{neither:,} answers hold neither yes nor no, which the rule reads as yes")
    if others := int(items.columns["neither"].sum()):
        share = f"{others / len(said):.1%}"
        notes.append(f"{others:,} answers ({share}) are not exactly yes or no, which this rule counts as wrong")
    for name in found:
        if not _confusion(items, name)["TP"] + _confusion(items, name)["FP"]:
            notes.append(f"{name}: no answer says yes, so there is no precision, and F1 is 0")
    return notes
