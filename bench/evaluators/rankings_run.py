"""A run's own image preferences as a benchmark: how often a scorer prefers the image that its annotators preferred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ...base.errors import PrefmillError
from ...base.files import sha256_of
from ...pipeline.dataset import Dataset
from ...pipeline.records import Candidate, ImagePreference
from ...pipeline.store import Run
from .measures import Ratio
from .rankings import RankedImages, RankingBenchmark, Rankings, Scores, checked

STAGE = "image_preferences"


def read_run(path: Path, _: Path | None) -> Rankings:
    """Read a run's preferences, one item per prompt. Raises PrefmillError for no run, and for one without any."""
    run = Run.open(path)
    prompts: dict[str, str] = {}
    pairs: dict[str, list[ImagePreference]] = defaultdict(list)
    for preference in run.dataset(STAGE, ImagePreference):
        prompts[preference.prompt_id] = preference.prompt
        pairs[preference.prompt_id].append(preference)
    items = [_item(name, prompts[name], own) for name, own in pairs.items()]
    folders = [name for name in run.stages() if name == "candidates" or name.startswith("candidates-")]
    drawn = [run.dataset(name, Candidate) for name in folders]

    def read(item: RankedImages) -> list[bytes]:
        return [_image(drawn, image, item) for image in item.images]

    return Rankings(checked(items, path / STAGE), sha256_of(path / STAGE), read)


def measure_run(items: Sequence[RankedImages], scores: Scores, _: object) -> dict[str, Ratio]:
    """Return the share of preferences whose chosen image scores higher, by aspect; equal scores are wrong."""
    aspects = sorted({aspect for item in items for aspect, _, _ in item.pairs}, key=lambda one: (one != "overall", one))
    found = {}
    for aspect in aspects:
        own = [[(better, worse) for name, better, worse in item.pairs if name == aspect] for item in items]
        right = [
            sum(score[better] > score[worse] for better, worse in pairs)
            for pairs, score in zip(own, scores, strict=True)
        ]
        found[aspect] = Ratio(right, [len(pairs) for pairs in own])
    return found


def _item(name: str, prompt: str, preferences: Sequence[ImagePreference]) -> RankedImages:
    images = list(dict.fromkeys(image for one in preferences for image in (one.chosen_id, one.rejected_id)))
    place = {image: number for number, image in enumerate(images)}
    pairs = tuple((one.aspect, place[one.chosen_id], place[one.rejected_id]) for one in preferences)
    return RankedImages(name, prompt, tuple(images), pairs=pairs)


def _image(drawn: Sequence[Dataset[Candidate]], image: str, item: RankedImages) -> bytes:
    for dataset in drawn:
        if image in dataset.rows_by("id"):
            return next(dataset.take([image])).image
    raise PrefmillError(
        f"item {item.id}: the run has no candidate {image}.",
        "put its folder of candidates back, or leave the item out with --allow-partial",
    )


BENCHMARK = RankingBenchmark(
    name="run",
    title="a run's image preferences",
    rule="by aspect and overall: the share of preferences whose chosen image scores higher; equal scores are wrong.",
    version=1,
    headline="overall",
    recognises=lambda fields: False,  # a folder, and told by it
    read=read_run,
    measure=measure_run,
)
