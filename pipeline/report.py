"""A run's report: one self-contained HTML file to look at, and to send to somebody.

Everything a model wrote passes through the template's escaping; images are embedded as small JPEGs. The first
prompts are shown in full, since people look at tens of rows, not at thousands; the counts cover all. The page's size
does not depend on the length of the run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from pydantic import BaseModel, ConfigDict

from ..base.errors import PrefmillError
from ..base.files import write_text
from .pairs.negatives import EDGES
from .quality import quality_of
from .records import Prompt
from .reporting.adapter_training import training_charts
from .reporting.generator_training import generator_trainings
from .reporting.guidance import guidance_scales
from .reporting.prompt_rows import Mark, cut, imported_pairs, prompt_rows
from .reporting.stages import stage_lines, surroundings
from .reporting.training_evaluation import training_evaluation
from .reporting.winners import winners
from .sources import responders_of
from .store import Run
from .summary import summarize
from .synthesis import RANDOM_NOTICE

SHOWN = 24  # prompts, or pairs where there are no prompts
RESULTS = "results.json"


class _Results(BaseModel):
    """What the page shows of results.json, which `bench/demo.py` writes: measures by name, [before, after]."""

    model_config = ConfigDict(extra="ignore")

    selection: dict[str, Any]
    dpo: dict[str, Any]
    control: dict[str, Any]


def write_report(run: Run, mark: Mark = lambda image, text: [], shown: int = SHOWN) -> Path:
    """Write RUN/report.html with the first `shown` prompts and return its path.

    Shows RUN/results.json too, where something was measured. Raises PrefmillError for damaged files, and where the
    page cannot be written.
    """
    if shown < 1:
        raise PrefmillError(f"a report of {shown} prompts would show nothing", "give --prompts a number from 1")
    images, summary, around = list(prompt_rows(run, mark, shown)), summarize(run), surroundings(run)
    values = {
        "name": run.folder.resolve().name,
        "summary": summary,
        "tiles": _tiles(summary),
        "stages": stage_lines(run, summary),
        "around": around,
        "images": images,
        "prompts": len(run.dataset("prompts", Prompt)),
        "orphans": list(imported_pairs(run, shown)) if not images else [],
        "guidance": guidance_scales(run),
        "winners": winners(run),
        "trainings": training_charts(run),
        "generators": generator_trainings(run),
        "evaluation": training_evaluation(run),
        "results": run.read_json(RESULTS, _Results),
        "quality": quality_of(run) if run.has("pairs") or responders_of(run) else None,
        "edges": EDGES,
        "is_random": RANDOM_NOTICE in around["notices"],
    }
    try:
        page = _template().render(values)
    except (jinja2.UndefinedError, TypeError, ValueError) as error:
        if values["results"] is None:  # all else is made here
            raise
        raise run.damaged(RESULTS, error) from error
    path = run.folder / "report.html"
    write_text(path, page)
    return path


@cache
def _template() -> jinja2.Template:
    """The page's template, with its parts compiled once."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cut"] = cut
    return environment.get_template("report.html")


def _tiles(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers at the top: rows of the stages that people ask for first, and the time."""
    rows = {name: stage["outputs"] for name, stage in summary["stages"].items()}
    found = [
        ("prompts", rows.get("prompts", 0)),
        ("images", sum(count for name, count in rows.items() if name.split("-")[0] == "candidates")),
        ("answers", sum(count for name, count in rows.items() if name.startswith("responses-"))),
        ("pairs", rows.get("pairs", 0)),
        ("preferences of images", rows.get("image_preferences", 0)),
    ]
    return [
        *((name, f"{count:,}") for name, count in found if count),
        ("device hours", f"{summary['device_hours']:.4f}"),
    ]
