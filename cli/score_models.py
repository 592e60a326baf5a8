"""Run one scorer over the rows of `prefmill score`: scores go into the rows' results, and so do the reasons for none.

A bad file is a row with a reason, not the end of the work. Images are decoded and made as small as the scorer reads
them in worker threads while the model scores the batch before, so that few are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..base.tables.table import BadRow
from ..engine.scorers.catalogue import TEXT_CHECKPOINT
from ..engine.scorers.choice import ScorerChoice
from ..engine.settings import EngineSettings
from ..pipeline.exchange.image_files import ImageFile
from .progress import ConsoleProgress
from .score_rows import ScoreRow

Results = list[dict[str, Any]]


def score_images(
    name: str,
    choice: ScorerChoice,
    settings: EngineSettings,
    rows: Sequence[ScoreRow],
    results: Results,
    batch_size: int,
    progress: ConsoleProgress,
) -> str:
    """Score the rows' images into the columns of `name`; return the key of the scorer's weights."""
    import torch

    engine = choice.load(settings)
    reads_prompts = choice.sources.keys() != {"aesthetic"}
    for result in results:
        result.update({name: None, f"{name}_truncated": None})
    for count, prepared in _prepared(engine.preprocess, rows, results, batch_size):
        # The aesthetic score is of the image alone; for all others an absent prompt is a reason not to score.
        kept = [one for one in prepared if not reads_prompts or _asked(rows[one[0]], results[one[0]])]
        if kept:
            asked = [rows[place].prompt or "" for place, _ in kept]
            scores = engine.score(torch.cat([pixels for _, pixels in kept]), asked)
            for (place, _), value, cut in zip(kept, scores.values.tolist(), scores.truncated, strict=True):
                results[place] |= {name: _finite(name, value, results[place]), f"{name}_truncated": cut}
        progress.step(name, count)
    return engine.key


def score_answers(
    name: str,
    source: str | None,
    settings: EngineSettings,
    rows: Sequence[ScoreRow],
    results: Results,
    batch_size: int,
    progress: ConsoleProgress,
) -> str:
    """Score the rows' answers; return the key of the scorer's weights."""
    from ..engine.scorers.text_reward import ATTRIBUTES, TextReward

    engine = TextReward.from_pretrained(source or TEXT_CHECKPOINT, settings)
    for result in results:
        result.update(dict.fromkeys((name, f"{name}_truncated", *(f"{name}_{label}" for label in ATTRIBUTES))))
    usable = []
    for place, row in enumerate(rows):
        if row.fault:
            continue
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
            score = _finite(name, judged.scores[number].item(), results[place])
            named = {f"{name}_{label}": value for label, value in judged.named(number).items()}
            results[place] |= {label: value if math.isfinite(value) else None for label, value in named.items()}
            results[place] |= {name: score, f"{name}_truncated": judged.truncated[number]}
        progress.step(name, len(places))
    return engine.key


def _prepared(
    preprocess: Callable[[list[Any]], Any], rows: Sequence[ScoreRow], results: Results, batch_size: int
) -> Iterator[tuple[int, list[tuple[int, Any]]]]:
    """Batches as (rows in it, [row number and pixels]), one ahead of the caller; a bad file gets a reason instead."""
    from ..engine.images import UnreadableImage, decoded

    def load(place: int) -> Any:
        row = rows[place]
        if row.image is None or row.fault or row.image_fault:
            return row.fault or row.image_fault or "no image"
        try:
            with decoded(ImageFile(row.image, row.image.stat().st_size, "").read()) as picture:
                return preprocess([picture])
        except UnreadableImage as error:
            return f"image {error.reason}: {error.detail}"
        except BadRow as fault:
            return f"image not readable: {fault.detail}"
        except OSError as error:
            return f"image not readable: {error.strerror}"

    batches = [range(start, min(start + batch_size, len(rows))) for start in range(0, len(rows), batch_size)]
    with ThreadPoolExecutor(4) as pool:
        ahead = [[pool.submit(load, place) for place in places] for places in batches[:1]]
        for number, places in enumerate(batches):
            ahead += [
                [pool.submit(load, place) for place in following] for following in batches[number + 1 : number + 2]
            ]
            loaded = [(place, future.result()) for place, future in zip(places, ahead.pop(0), strict=True)]
            for place, outcome in loaded:
                if isinstance(outcome, str):
                    _note(results[place], outcome)
            yield len(places), [(place, outcome) for place, outcome in loaded if not isinstance(outcome, str)]


def _asked(row: ScoreRow, result: dict[str, Any]) -> bool:
    """Whether the row has a prompt to score on; an empty one is a prompt, which the scorers accept."""
    if row.prompt is None:
        _note(result, row.prompt_fault or "no prompt")
    return row.prompt is not None


def _finite(name: str, value: float, result: dict[str, Any]) -> float | None:
    """A score that is a number; another one is a problem of its row, not of the others."""
    if math.isfinite(value):
        return value
    _note(result, f"{name} scored {value}")
    return None


def written(text: str | None) -> str | None:
    """A text as a file can hold it: what is no character, from a name that is not UTF-8, is spelled out."""
    return text and text.encode("utf-8", "backslashreplace").decode()


def _note(result: dict[str, Any], problem: str) -> None:
    known, problem = result["problem"], str(written(problem))
    if not known or problem not in known:
        result["problem"] = f"{known}; {problem}" if known else problem
