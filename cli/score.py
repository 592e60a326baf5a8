"""`prefmill score`: score images against prompts, or answers to prompts, with any of the scorers, into a table.

Scorers run one after the other, so that one model is in memory at a time. What cannot be written is found first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from ..base.errors import PrefmillError
from ..base.paths import user_path
from ..base.text import printable
from ..engine.scorers.catalogue import IMAGE_SCORERS, TEXT_SCORER
from ..engine.scorers.choice import ScorerChoice
from ..engine.settings import EngineSettings
from ..recipes.settings import validated
from .progress import watched
from .score_files import check_endings, check_writable, write_contact_sheet, write_table
from .score_models import Results, score_answers, score_images, written
from .score_prompts import prompted
from .score_rows import read_rows
from .scorer_choices import named, scorer_choices

COLUMNS = ("image", "prompt", "answer", "problem")
"""Of the table, beside the scorers'."""


def score_command(
    images: Path,
    prompt: str | None,
    prompts: Path | None,
    scorer: str,
    to: Path,
    models: Sequence[str],
    sheet: Path | None,
    batch_size: int,
    device: str,
    dtype: str,
    as_json: bool,
    root: Path | None = None,
) -> None:
    """Score a folder or a table and write the result; a row that cannot be scored says why."""
    choices, judge = _chosen(scorer, models)
    images, to = user_path(images, "IMAGES"), user_path(to, "--to")
    sheet = None if sheet is None else user_path(sheet, "--sheet")
    check_endings(to, sheet)
    first = next((name for name, choice in choices.items() if choice is not None), None)
    if sheet is not None and first is None:
        raise PrefmillError(f"--sheet shows images, and {scorer} scores none.", "leave --sheet out")
    if batch_size < 1:
        raise PrefmillError(f"--batch-size {batch_size} scores nothing.", "give at least 1; 16 is usual")
    settings = validated(EngineSettings, {"device": device, "dtype": dtype})
    rows = prompted(read_rows(images, root), prompt, prompts)
    if TEXT_SCORER in choices and not any(row.answer is not None for row in rows):
        raise PrefmillError(
            f"{TEXT_SCORER} scores answers, and {images} has no column `answer`.",
            "give a table with the columns image, prompt and answer, or leave armorm out",
        )
    _check_outputs(to, sheet, [images, *([prompts] if prompts else []), *(row.image for row in rows if row.image)])
    results: Results = [
        {
            "image": written(row.image and str(row.image)),
            "prompt": row.prompt,
            "answer": row.answer,
            "problem": written(row.fault),
        }
        for row in rows
    ]
    keys: dict[str, str] = {}
    with watched("the same command") as progress:
        for name, choice in choices.items():
            progress.begin(name, len(rows), unit="answers" if choice is None else "images")
            if choice is None:
                keys[name] = score_answers(name, judge, settings, rows, results, batch_size, progress)
            else:
                keys[name] = score_images(name, choice, settings, rows, results, batch_size, progress)
    write_table(to, results)
    shown = 0
    if sheet is not None and first is not None:
        pairs = zip(rows, results, strict=True)
        scored = [(row.image, result[first]) for row, result in pairs if row.image and result[first] is not None]
        shown = write_contact_sheet(sheet, scored)
    _report(results, list(choices), keys, to, sheet if shown else None, as_json)


def _check_outputs(to: Path, sheet: Path | None, inputs: Sequence[Path]) -> None:
    """Find before the work what would lose it, or an input."""
    check_writable("--to", to, inputs)
    if sheet is not None:
        check_writable("--sheet", sheet, inputs)


def _chosen(scorer: str, models: Sequence[str]) -> tuple[dict[str, ScorerChoice | None], str | None]:
    """The scorers by name in their order, None for that of answers, and that one's checkpoint where it is given."""
    asked = [one.strip() for one in scorer.split(",") if one.strip()]
    if not asked:
        known = ", ".join((*IMAGE_SCORERS, TEXT_SCORER))
        raise PrefmillError(f"there is no scorer {scorer!r}.", f"choose from {known}")
    own = [one for one in models if TEXT_SCORER in asked and one.partition("=")[0] == TEXT_SCORER]
    judge = dict(named("--model", one, "NAME=FOLDER") for one in own).get(TEXT_SCORER)
    choices = scorer_choices(
        ",".join(one for one in asked if one != TEXT_SCORER), [one for one in models if one not in own]
    )
    if taken := [name for name in choices if name in (*COLUMNS, TEXT_SCORER)]:
        raise PrefmillError(f"--scorer calls one {taken[0]!r}, as another column is.", "give it another name")
    return {name: choices.get(name) for name in (one.partition("=")[0] for one in asked)}, judge


def _report(
    results: Results, names: Sequence[str], keys: dict[str, str], to: Path, sheet: Path | None, as_json: bool
) -> None:
    problems = [result for result in results if result["problem"]]
    summary: dict[str, Any] = {"rows": len(results), "problems": len(problems), "table": str(to), "models": keys}
    if sheet is not None:
        summary["sheet"] = str(sheet)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    for name in names:
        values = [result[name] for result in results if result[name] is not None]
        mean = f", mean {sum(values) / len(values):.4f}" if values else ""
        cut = sum(bool(result[f"{name}_truncated"]) for result in results)
        typer.echo(f"{name}: {len(values)} of {len(results)} scored{mean}{f', {cut} prompts cut' if cut else ''}")
    for result in problems[:10]:
        what = result["image"] or result["answer"]
        typer.echo(printable(f"not scored: {f'{what}: ' if what else ''}{result['problem']}"))
    if len(problems) > 10:
        typer.echo(f"and {len(problems) - 10} more; see the column `problem`")
    typer.echo(printable(f"table: {to}"))
    if sheet is not None:
        typer.echo(printable(f"sheet: {sheet}"))
