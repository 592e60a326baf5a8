"""A run's report: one self-contained HTML file to look at, and to send to somebody.

Everything a model wrote passes through the template's escaping; images are embedded as small JPEGs. The first
prompts are shown in full, since people look at tens of rows, not at thousands; the counts cover all.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ..base.files import write_text
from ..engine.images import UnreadableImage, decode_image
from .records import Candidate, Instruction, Pair, Prompt, Response, Score, Selection
from .sources import responders_of, responses_folder
from .store import Run
from .summary import summarize
from .synthesis import RANDOM_NOTICE

SHOWN = 24  # prompts, or pairs where there are no prompts
THUMBNAIL = 224  # pixels, longer side


Mark = Callable[[bytes, str], list[str]]
"""Words of an answer to mark, given the image's bytes and the answer: what the image does not show, say."""


def write_report(run: Run, mark: Mark = lambda image, text: []) -> Path:
    """Write RUN/report.html and return its path. Shows RUN/results.json too, where something was measured."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.get_template("report.html")
    images = list(_images(run, mark))
    page = template.render(
        name=run.folder.resolve().name,
        summary=summarize(run),
        images=images,
        orphans=list(_imported_pairs(run)) if not images else [],
        guidance=_guidance_share(run),
        curve=_curve(run),
        results=_results(run),
        shown=SHOWN,
        is_random=any(notice == RANDOM_NOTICE for notice in _notices(run)),
    )
    path = run.folder / "report.html"
    write_text(path, page)
    return path


def _notices(run: Run) -> Iterator[str]:
    for stage in summarize(run)["stages"].values():
        yield from stage["notices"]


def _images(run: Run, mark: Mark) -> Iterator[dict[str, Any]]:
    """Yield, per prompt: its candidates with scores, the instruction, and every answer with its fate."""
    candidates = run.dataset("candidates", Candidate)
    owners: dict[str, list[int]] = {}
    for row, owner in enumerate(candidates.column("prompt_id")):
        owners.setdefault(owner, []).append(row)
    image_scores = {score.subject_id: score for score in run.dataset("image_scores", Score)}
    chosen = [row for name in ("picks", "selections") for row in run.dataset(name, Selection)]  # imported, or made
    selections = {row.prompt_id: row for row in chosen}
    instructions: dict[str, list[Instruction]] = {}
    for row in run.dataset("instructions", Instruction):
        instructions.setdefault(row.image_id, []).append(row)
    answers = _answers(run)
    for prompt in run.dataset("prompts", Prompt).read(0, SHOWN):
        selection = selections.get(prompt.id)
        drawn = [candidates.read(row, row + 1)[0] for row in owners.get(prompt.id, [])]
        yield {
            "prompt": prompt,
            "candidates": [
                {
                    "data": _thumbnail(candidate.image),
                    "row": candidate,
                    "score": image_scores.get(candidate.id),
                    "selected": selection is not None and selection.image_id == candidate.id,
                }
                for candidate in drawn
            ],
            "questions": [
                {
                    "instruction": row,
                    "answers": [
                        entry | {"text": _marked(entry["row"].text, mark(candidate.image, entry["row"].text))}
                        for entry in answers.get(row.id, [])
                    ],
                }
                for candidate in drawn
                for row in instructions.get(candidate.id, [])
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


def _results(run: Run) -> dict[str, Any] | None:
    path = run.folder / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _answers(run: Run) -> dict[str, list[dict[str, Any]]]:
    scores = {score.subject_id: score for score in run.dataset("response_scores", Score)}
    pairs = run.dataset("pairs", Pair)
    fate: dict[str, str] = {reject.subject_id: reject.reason for reject in pairs.rejects()}
    for pair in pairs:
        fate |= {str(pair.chosen_id): "chosen", str(pair.rejected_id): "rejected"}
    answers: dict[str, list[dict[str, Any]]] = {}
    for name in responders_of(run):
        for response in run.dataset(responses_folder(name), Response):
            entry = {"row": response, "score": scores.get(response.id), "fate": fate.get(response.id, "")}
            answers.setdefault(response.instruction_id, []).append(entry)
    return answers


def _imported_pairs(run: Run) -> Iterator[dict[str, Any]]:
    pairs = run.dataset("pairs", Pair).read(0, SHOWN)
    candidates = run.dataset("candidates", Candidate)
    known = candidates.rows_by("id")
    for pair in pairs:
        found = next(candidates.take([pair.image_id])) if pair.image_id in known else None
        yield {"pair": pair, "data": _thumbnail(found.image) if found else None}


def _guidance_share(run: Run) -> list[tuple[str, float, int]]:
    """Return (guidance, share of the selections, count): the published Fig. 4 of this run."""
    candidates, selections = run.dataset("candidates", Candidate), run.dataset("selections", Selection)
    scale = dict(zip(candidates.column("id"), candidates.column("guidance"), strict=True))
    counts = Counter(scale.get(image) for image in selections.column("image_id"))
    known = sorted(value for value in counts if value is not None)
    return [(f"{value:g}", counts[value] / counts.total(), counts[value]) for value in known]


def _curve(run: Run) -> dict[str, Any] | None:
    """Return the training loss as points of an SVG polyline, 600 x 160."""
    path = run.folder / "training" / "metrics.jsonl"
    if not path.exists():
        return None
    steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    losses = [float(step["loss"]) for step in steps if "loss" in step]
    if not losses:
        return None
    low, high = min(losses), max(losses)
    width, height = 600 / max(len(losses) - 1, 1), 160 / ((high - low) or 1)
    points = " ".join(f"{number * width:.1f},{(high - loss) * height:.1f}" for number, loss in enumerate(losses))
    return {"points": points, "low": low, "high": high, "steps": len(losses), "first": losses[0], "last": losses[-1]}


def _thumbnail(data: bytes) -> str | None:
    try:
        image = decode_image(data)
    except UnreadableImage:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
