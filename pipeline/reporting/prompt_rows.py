"""The first prompts of a run as a page shows them: images with scores, and every answer with its fate.

Of the run's rows only those of the prompts shown are held in memory, and of each prompt only so much that a page stays
small whatever the run is.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup, escape

from ..candidate_folders import CandidateLookup, candidates_in
from ..records import Candidate, Instruction, Pair, Prompt, Response, Score, Selection
from ..sources import responders_of, responses_folder
from ..store import Run
from ..thumbnails import thumbnail
from .annotations import annotations_of

MOST_IMAGES = 16  # of a prompt
MOST_QUESTIONS = 12  # about the images of a prompt
MOST_ANSWERS = 16  # to a question
LONGEST = 4000  # characters of a text

Mark = Callable[[bytes, str], list[str]]
"""Words of an answer to mark, given the image's bytes and the answer: what the image does not show, say."""


def prompt_rows(run: Run, mark: Mark, shown: int) -> Iterator[dict[str, Any]]:
    """Yield, per prompt: its candidates with scores, the instructions, and every answer with its fate."""
    prompts = run.dataset("prompts", Prompt).read(0, shown)
    candidates: dict[str, list[Candidate]] = defaultdict(list)
    hidden = Counter[str]()
    for row in CandidateLookup(run).of_prompts(prompt.id for prompt in prompts):
        if len(candidates[row.prompt_id or ""]) < MOST_IMAGES:
            candidates[row.prompt_id or ""].append(row)
        else:
            hidden[row.prompt_id or ""] += 1
    said = annotations_of(run, [prompt.id for prompt in prompts])
    image_ids = [row.id for rows in candidates.values() for row in rows]
    scores = {row.subject_id: row for row in run.dataset("image_scores", Score).matching("subject_id", image_ids)}
    selected = {  # imported, or made
        row.prompt_id: row.image_id
        for name in ("picks", "selections")
        for row in run.dataset(name, Selection).matching("prompt_id", list(candidates))
    }
    owner = {row.id: prompt for prompt, rows in candidates.items() for row in rows}
    instructions: dict[str, list[Instruction]] = defaultdict(list)
    asked = Counter[str]()
    for row in run.dataset("instructions", Instruction).matching("image_id", image_ids):
        asked[owner[row.image_id]] += 1
        if asked[owner[row.image_id]] <= MOST_QUESTIONS:
            instructions[row.image_id].append(row)
    answers = _answers(run, [row.id for rows in instructions.values() for row in rows])
    for prompt in prompts:
        names = {row.id: str(number) for number, row in enumerate(candidates[prompt.id], start=1)}
        yield {
            "prompt": prompt,
            "hidden": hidden[prompt.id],
            "several_models": len({row.model for row in candidates[prompt.id]}) > 1,
            "annotated": said,
            "orders": {
                aspect: [[names[image] for image in group if image in names] for group in order]
                for aspect, order in said.orders.get(prompt.id, {}).items()
            },
            "candidates": [
                {
                    "data": thumbnail(candidate.image),
                    "row": candidate,
                    "score": scores.get(candidate.id),
                    "selected": selected.get(prompt.id) == candidate.id,
                    "rated": said.images.get(candidate.id),
                }
                for candidate in candidates[prompt.id]
            ],
            "more_questions": max(0, asked[prompt.id] - MOST_QUESTIONS),
            "questions": [
                {
                    "instruction": row,
                    "answers": [
                        entry | {"text": _marked(cut(entry["row"].text), mark(candidate.image, entry["row"].text))}
                        for entry in answers[row.id][:MOST_ANSWERS]
                    ],
                    "more_answers": max(0, len(answers[row.id]) - MOST_ANSWERS),
                }
                for candidate in candidates[prompt.id]
                for row in instructions[candidate.id]
            ],
        }


def cut(text: str) -> str:
    """Return a text as long as a page shows it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _marked(text: str, words: list[str]) -> Markup:
    """Return a text with some of its words marked; everything else in it is escaped."""
    if not words:
        return escape(text)
    parts = re.split(rf"\b({'|'.join(map(re.escape, words))})\b", text)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def _answers(run: Run, instructions: list[str]) -> defaultdict[str, list[dict[str, Any]]]:
    """Return, by instruction, the answers to some: each with its responder's name, its score and its fate."""
    named = [
        (name, row)
        for name in responders_of(run)
        for row in run.dataset(responses_folder(name), Response).matching("instruction_id", instructions)
    ]
    ids = {row.id for _, row in named}
    scores = {row.subject_id: row for row in run.dataset("response_scores", Score).matching("subject_id", ids)}
    pairs = run.dataset("pairs", Pair)
    fate = {reject.subject_id: reject.reason for reject in pairs.rejects() if reject.subject_id in ids}
    for key, outcome in (("chosen_id", "chosen"), ("rejected_id", "rejected")):
        fate |= {getattr(pair, key): outcome for pair in pairs.matching(key, ids)}
    answers: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, row in named:
        entry = {"responder": name, "row": row, "score": scores.get(row.id), "fate": fate.get(row.id, "")}
        answers[row.instruction_id].append(entry)
    return answers


def imported_pairs(run: Run, shown: int) -> Iterator[dict[str, Any]]:
    """Yield the first pairs with their images, for a run without prompts."""
    pairs = run.dataset("pairs", Pair).read(0, shown)
    wanted = {pair.image_id for pair in pairs}
    found = {row.id: thumbnail(row.image) for dataset in candidates_in(run) for row in dataset.matching("id", wanted)}
    for pair in pairs:
        yield {"pair": pair, "data": found.get(pair.image_id)}
