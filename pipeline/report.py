"""A run's report: one self-contained HTML file to look at, and to send to somebody.

Everything a model wrote passes through the template's escaping; images are embedded as small JPEGs. The first
prompts are shown in full, since people look at tens of rows, not at thousands; the counts cover all. Of the run's
rows only those of the prompts shown are held in memory.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from pydantic import BaseModel, ConfigDict

from ..base.errors import PrefmillError
from ..base.files import write_text
from .candidate_folders import CandidateLookup, candidates_in
from .pairs.negatives import EDGES
from .quality import quality_of
from .records import Candidate, Instruction, Pair, Prompt, Response, Score, Selection
from .reporting.annotations import annotations_of
from .reporting.curves import column, curve, read_metrics
from .reporting.generator_training import generator_trainings
from .reporting.training_evaluation import training_evaluation
from .sources import responders_of, responses_folder
from .store import Run
from .summary import summarize
from .synthesis import RANDOM_NOTICE
from .thumbnails import thumbnail

SHOWN = 24  # prompts, or pairs where there are no prompts
MOST_IMAGES = 16  # of a prompt
RESULTS = "results.json"
METRICS = "training/metrics.jsonl"


Mark = Callable[[bytes, str], list[str]]
"""Words of an answer to mark, given the image's bytes and the answer: what the image does not show, say."""


class _Results(BaseModel):
    """What the page shows of results.json, which `bench/demo.py` writes: measures by name, [before, after]."""

    model_config = ConfigDict(extra="ignore")

    selection: dict[str, Any]
    dpo: dict[str, Any]
    control_shuffled: dict[str, Any]


def write_report(run: Run, mark: Mark = lambda image, text: [], shown: int = SHOWN) -> Path:
    """Write RUN/report.html with the first `shown` prompts and return its path.

    Shows RUN/results.json too, where something was measured. Raises PrefmillError for damaged files, and where the
    page cannot be written.
    """
    if shown < 1:
        raise PrefmillError(f"a report of {shown} prompts would show nothing", "give --prompts a number from 1")
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.get_template("report.html")
    images = list(_images(run, mark, shown))
    values = {
        "name": run.folder.resolve().name,
        "summary": summarize(run),
        "images": images,
        "prompts": len(run.dataset("prompts", Prompt)),
        "orphans": list(_imported_pairs(run, shown)) if not images else [],
        "guidance": _guidance_share(run),
        "curve": _curve(run),
        "generators": generator_trainings(run),
        "evaluation": training_evaluation(run),
        "results": run.read_json(RESULTS, _Results),
        "quality": quality_of(run) if run.has("pairs") or responders_of(run) else None,
        "edges": EDGES,
        "is_random": any(notice == RANDOM_NOTICE for notice in _notices(run)),
    }
    try:
        page = template.render(values)
    except (jinja2.UndefinedError, TypeError, ValueError) as error:
        if values["results"] is None:  # all else is made here
            raise
        raise run.damaged(RESULTS, error) from error
    path = run.folder / "report.html"
    write_text(path, page)
    return path


def _notices(run: Run) -> Iterator[str]:
    for stage in summarize(run)["stages"].values():
        yield from stage["notices"]


def _images(run: Run, mark: Mark, shown: int) -> Iterator[dict[str, Any]]:
    """Yield, per prompt: its candidates with scores, the instruction, and every answer with its fate."""
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
    instructions: dict[str, list[Instruction]] = defaultdict(list)
    for row in run.dataset("instructions", Instruction).matching("image_id", image_ids):
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
            "questions": [
                {
                    "instruction": row,
                    "answers": [
                        entry | {"text": _marked(entry["row"].text, mark(candidate.image, entry["row"].text))}
                        for entry in answers[row.id]
                    ],
                }
                for candidate in candidates[prompt.id]
                for row in instructions[candidate.id]
            ],
        }


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


def _imported_pairs(run: Run, shown: int) -> Iterator[dict[str, Any]]:
    pairs = run.dataset("pairs", Pair).read(0, shown)
    wanted = {pair.image_id for pair in pairs}
    found = {row.id: thumbnail(row.image) for dataset in candidates_in(run) for row in dataset.matching("id", wanted)}
    for pair in pairs:
        yield {"pair": pair, "data": found.get(pair.image_id)}


def _guidance_share(run: Run) -> list[tuple[str, float, int]]:
    """Return (guidance, share of the selections, count): the published Fig. 4 of this run."""
    selections = run.dataset("selections", Selection)
    scale: dict[str, float | None] = {}
    for dataset in candidates_in(run):
        scale |= zip(dataset.column("id"), dataset.column("guidance"), strict=True)
    counts = Counter(scale.get(image) for image in selections.column("image_id"))
    known = sorted(value for value in counts if value is not None)
    return [(f"{value:g}", counts[value] / counts.total(), counts[value]) for value in known]


def _curve(run: Run) -> dict[str, Any] | None:
    """Return the training loss as points of an SVG polyline."""
    return curve(column(run, METRICS, read_metrics(run, METRICS), "loss"))
