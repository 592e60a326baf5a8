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
from ..engine.settings import EngineSettings
from ..recipes.settings import validated
from .progress import watched
from .score_files import check_endings, check_writable, write_contact_sheet, write_table
from .score_models import Results, score_answers, score_images, written
from .score_prompts import prompted
from .score_rows import read_rows

NAMES = (*IMAGE_SCORERS, TEXT_SCORER)


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
    names = _names(scorer)
    sources = _sources(models, names)
    images, to = user_path(images, "IMAGES"), user_path(to, "--to")
    sheet = None if sheet is None else user_path(sheet, "--sheet")
    check_endings(to, sheet)
    first = next((name for name in names if name in IMAGE_SCORERS), None)
    if sheet is not None and first is None:
        raise PrefmillError(f"--sheet shows images, and {scorer} scores none.", "leave --sheet out")
    if batch_size < 1:
        raise PrefmillError(f"--batch-size {batch_size} scores nothing.", "give at least 1; 16 is usual")
    settings = validated(EngineSettings, {"device": device, "dtype": dtype})
    rows = prompted(read_rows(images, root), prompt, prompts)
    if TEXT_SCORER in names and not any(row.answer is not None for row in rows):
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
        for name in names:
            progress.begin(name, len(rows), unit="answers" if name == TEXT_SCORER else "images")
            scoring = score_answers if name == TEXT_SCORER else score_images
            keys[name] = scoring(name, sources.get(name), settings, rows, results, batch_size, progress)
    write_table(to, results)
    shown = 0
    if sheet is not None and first is not None:
        pairs = zip(rows, results, strict=True)
        scored = [(row.image, result[first]) for row, result in pairs if row.image and result[first] is not None]
        shown = write_contact_sheet(sheet, scored)
    _report(results, names, keys, to, sheet if shown else None, as_json)


def _check_outputs(to: Path, sheet: Path | None, inputs: Sequence[Path]) -> None:
    """Find before the work what would lose it, or an input."""
    check_writable("--to", to, inputs)
    if sheet is not None:
        check_writable("--sheet", sheet, inputs)


def _names(scorer: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in scorer.split(",") if name.strip()))
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise PrefmillError(f"there is no scorer {', '.join(unknown) or scorer!r}.", f"choose from {', '.join(NAMES)}")
    return names


def _sources(models: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    sources = {}
    for setting in models:
        name, separator, source = setting.partition("=")
        if not separator or not source or name not in names:
            raise PrefmillError(
                f"--model {setting!r} names no checkpoint of a chosen scorer.", f"write --model {names[0]}=FOLDER"
            )
        sources[name] = source
    return sources


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
