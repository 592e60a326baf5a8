"""Score a benchmark's images, a few items at a time; whatever is scored is in the file of scores at once.

Batches are always the same items, counted from the start of the data, so that a scoring that was stopped ends in the
numbers of one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from ...base.errors import PrefmillError
from ...base.progress import Progress
from ...engine.images import decode_image
from ...engine.scorers.choice import ScorerChoice
from ...engine.scorers.interface import ImageScorer
from ...engine.settings import EngineSettings
from .rankings import RankedImages, Rankings
from .rankings_scores import ItemScores, ScoreLog, digest_of


def score_rankings(
    name: str,
    choice: ScorerChoice,
    settings: EngineSettings,
    data: Sequence[Rankings],
    known: dict[str, ItemScores],
    log: ScoreLog,
    progress: Progress,
    *,
    batch_size: int,
    partial: bool,
) -> None:
    """Add to `known`, and to the log, the scores of all items that it lacks, or has no scores of for a reason.

    Raises PrefmillError where `known` is of other weights, and for an image that cannot be read unless `partial`.
    """
    if not partial and data and data[0].items:
        data[0].read_images(data[0].items[0])  # a wrong folder shows before a model is loaded
    scorer = choice.load(settings)
    for found in known.values():
        if found.key not in (None, scorer.key):
            raise PrefmillError(
                f"{found.place}: {name} was {found.key} there, and is {scorer.key} now.",
                "give another file with --scores, or this scorer another name: --scorer NAME=SCORER",
            )
    missing = {item.id for one in data for item in one.items if item.id not in known or known[item.id].problem}
    items = sum(len(one.items) for one in data)
    progress.begin(name, items, done=items - len(missing), unit="items")
    with ThreadPoolExecutor(1) as pool:
        for rankings in data:
            batches = [
                batch for batch in _batches(rankings.items, batch_size) if not missing.isdisjoint(map(_id, batch))
            ]
            ahead = [pool.submit(_load, batch, rankings, scorer, partial) for batch in batches[:1]]
            for number, batch in enumerate(batches):
                following = batches[number + 1 : number + 2]
                ahead += [pool.submit(_load, one, rankings, scorer, partial) for one in following]
                rows = [one for one in _scored(batch, ahead.pop(0).result(), scorer) if one.id in missing]
                log.add(name, [one for one in rows if one.id not in known or one.problem != known[one.id].problem])
                known |= {one.id: one for one in rows}
                progress.step(name, len(rows))
    progress.end(name, f"{len(known)} items")


def _id(item: RankedImages) -> str:
    return item.id


def _batches(items: Sequence[RankedImages], size: int) -> Iterator[list[RankedImages]]:
    """Cut items so that a batch has `size` images at most, but one item at least."""
    batch: list[RankedImages] = []
    for item in items:
        if batch and sum(len(one.images) for one in batch) + len(item.images) > size:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _load(
    batch: Sequence[RankedImages], rankings: Rankings, scorer: ImageScorer, partial: bool
) -> list[torch.Tensor | str]:
    """The pixels of every item, or why there are none."""
    loaded: list[torch.Tensor | str] = []
    for item in batch:
        try:
            loaded.append(scorer.preprocess([decode_image(data) for data in rankings.read_images(item)]))
        except PrefmillError as error:
            if not partial:
                fix = error.fix or "replace the image, or leave the item out with --allow-partial"
                raise PrefmillError(
                    f"item {item.id}: {error.message.removeprefix(f'item {item.id}: ')}", fix
                ) from error
            loaded.append(error.message)
    return loaded


def _scored(
    batch: Sequence[RankedImages], loaded: Sequence[torch.Tensor | str], scorer: ImageScorer
) -> Iterator[ItemScores]:
    """The rows of a batch, in its order."""
    pixels = [one for one in loaded if isinstance(one, torch.Tensor)]
    prompts = [
        item.prompt
        for item, one in zip(batch, loaded, strict=True)
        if not isinstance(one, str)
        for _ in range(len(one))
    ]
    scores = scorer.score(torch.cat(pixels), prompts) if pixels else None
    start = 0
    for item, one in zip(batch, loaded, strict=True):
        if isinstance(one, str) or scores is None:
            unscored = (math.nan,) * len(item.images)
            yield ItemScores(item.id, unscored, digest=digest_of(item), key=scorer.key, problem=str(one))
            continue
        stop = start + len(item.images)
        values, cut = scores.values[start:stop].tolist(), any(scores.truncated[start:stop])
        yield ItemScores(item.id, tuple(values), digest=digest_of(item), key=scorer.key, truncated=cut)
        start = stop
