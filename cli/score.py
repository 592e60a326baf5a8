"""`prefmill score`: score images against prompts, or answers to prompts, with any of the scorers, into a table.

A bad file is a row with a reason, not the end of the work. Images are decoded in worker threads while the model
scores the batch before. Scorers run one after the other, so that one model is in memory at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import typer

from ..base.errors import PrefmillError
from ..engine.scorers.catalogue import IMAGE_SCORERS, TEXT_CHECKPOINT, TEXT_SCORER
from ..engine.settings import EngineSettings
from ..recipes.settings import validated
from .progress import ConsoleProgress, watched
from .score_files import check_output, write_contact_sheet, write_table
from .score_rows import ScoreRow, read_rows

NAMES = (*IMAGE_SCORERS, TEXT_SCORER)
Results = list[dict[str, Any]]


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
    check_output(to)
    if batch_size < 1:
        raise PrefmillError(f"--batch-size {batch_size} scores nothing.", "give at least 1; 16 is usual")
    settings = validated(EngineSettings, {"device": device, "dtype": dtype})
    rows = read_rows(images, prompt, prompts, root)
    if TEXT_SCORER in names and not any(row.answer is not None for row in rows):
        raise PrefmillError(
            f"{TEXT_SCORER} scores answers, and {images} has no column `answer`.",
            "give a table with the columns image, prompt and answer, or leave armorm out",
        )
    results = [
        {"image": str(row.image) if row.image else None, "prompt": row.prompt, "answer": row.answer, "problem": None}
        for row in rows
    ]
    keys: dict[str, str] = {}
    with watched("the same command") as progress:
        for name in names:
            progress.begin(name, len(rows), unit="answers" if name == TEXT_SCORER else "images")
            scoring = _score_answers if name == TEXT_SCORER else _score_images
            keys[name] = scoring(name, sources.get(name), settings, rows, results, batch_size, progress)
    write_table(to, results)
    first = next((name for name in names if name in IMAGE_SCORERS), None)
    shown = write_contact_sheet(sheet or to.with_suffix(".png"), results, first) if first else 0
    _report(results, names, keys, to, (sheet or to.with_suffix(".png")) if shown else None, as_json)


def _score_images(
    name: str,
    source: str | None,
    settings: EngineSettings,
    rows: Sequence[ScoreRow],
    results: Results,
    batch_size: int,
    progress: ConsoleProgress,
) -> str:
    from ..engine.scorers.catalogue import load_image_scorer

    engine = load_image_scorer(name, source, settings)
    for result in results:
        result.update({name: None, f"{name}_truncated": None})
    for places, pictures in _decoded(rows, results, batch_size):
        # The aesthetic score is of the image alone; for all others an absent prompt is a reason not to score.
        kept = [at for at, place in enumerate(places) if name == "aesthetic" or _asked(rows[place], results[place])]
        if kept:
            asked = [rows[places[at]].prompt or "" for at in kept]
            scores = engine.score(engine.preprocess([pictures[at] for at in kept]), asked)
            for at, value, cut in zip(kept, scores.values.tolist(), scores.truncated, strict=True):
                results[places[at]] |= {name: value, f"{name}_truncated": cut}
        progress.step(name, len(places))
    return engine.key


def _score_answers(
    name: str,
    source: str | None,
    settings: EngineSettings,
    rows: Sequence[ScoreRow],
    results: Results,
    batch_size: int,
    progress: ConsoleProgress,
) -> str:
    from ..engine.scorers.text_reward import ATTRIBUTES, TextReward

    engine = TextReward.from_pretrained(source or TEXT_CHECKPOINT, settings)
    for result in results:
        result.update(dict.fromkeys((name, f"{name}_truncated", *(f"{name}_{label}" for label in ATTRIBUTES))))
    usable = []
    for place, row in enumerate(rows):
        if not (row.answer or "").strip():
            _note(results[place], "no answer" if row.answer is None else "empty answer")
        elif _asked(row, results[place]):
            usable.append(place)
    # In the order of prompts, so that the answers to one prompt meet in one batch and share it.
    usable.sort(key=lambda place: (rows[place].prompt or "", place))
    for start in range(0, len(usable), batch_size):
        places = usable[start : start + batch_size]
        judged = engine.score([rows[at].prompt or "" for at in places], [rows[at].answer or "" for at in places])
        for number, place in enumerate(places):
            results[place] |= {f"{name}_{label}": value for label, value in judged.named(number).items()}
            results[place] |= {name: judged.scores[number].item(), f"{name}_truncated": judged.truncated[number]}
        progress.step(name, len(places))
    return engine.key


def _decoded(rows: Sequence[ScoreRow], results: Results, batch_size: int) -> Iterator[tuple[list[int], list[Any]]]:
    """Batches of row numbers with their images, one batch ahead of the caller; bad files get a reason and no image."""
    from ..engine.images import UnreadableImage, decode_image

    def load(place: int) -> Any:
        row = rows[place]
        path = row.image
        if path is None or row.fault:
            return row.fault or "no image"
        try:
            return decode_image(path.read_bytes())
        except UnreadableImage as error:
            return f"image {error.reason}: {error.detail}"
        except OSError as error:
            return f"image not readable: {error.strerror}"

    starts = range(0, len(rows), batch_size)
    with ThreadPoolExecutor(4) as pool:
        ahead: list[Any] = []
        for start in [*starts, None]:
            if start is not None:
                places = list(range(start, min(start + batch_size, len(rows))))
                ahead.append((places, [pool.submit(load, place) for place in places]))
            if len(ahead) == 2 or (start is None and ahead):
                done, pending = ahead.pop(0)
                loaded = [(place, future.result()) for place, future in zip(done, pending, strict=True)]
                for place, outcome in loaded:
                    if isinstance(outcome, str):
                        _note(results[place], outcome)
                good = [(place, outcome) for place, outcome in loaded if not isinstance(outcome, str)]
                yield [place for place, _ in good], [outcome for _, outcome in good]


def _asked(row: ScoreRow, result: dict[str, Any]) -> bool:
    """Whether the row has a prompt to score on; an empty one is a prompt, which the scorers accept."""
    if row.prompt is None:
        _note(result, "no prompt")
    return row.prompt is not None


def _note(result: dict[str, Any], problem: str) -> None:
    known = result["problem"]
    if not known or problem not in known:
        result["problem"] = f"{known}; {problem}" if known else problem


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
        typer.echo(f"not scored: {result['image'] or result['answer']}: {result['problem']}")
    if len(problems) > 10:
        typer.echo(f"and {len(problems) - 10} more; see the column `problem`")
    typer.echo(f"table: {to}")
    if sheet is not None:
        typer.echo(f"sheet: {sheet}")
