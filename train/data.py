"""From a run's pairs and images to the columns TRL trains on: images, prompt, chosen, rejected, as conversations.

Only the texts are held in memory. An image is read from the run and decoded when its pair is trained on, and
forgotten again: twelve thousand megapixel images would be 36 GB.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import PrefmillError
from ..engine.images import decode_image
from ..pipeline.records import Candidate, Pair, Score, is_held_out
from ..pipeline.store import Run

if TYPE_CHECKING:
    import datasets
    from PIL import Image


def load_pairs(run_folder: Path, *, margins: bool = False) -> list[Pair]:
    """Return a run's pairs in their order, which is the order of its input; with `margins` every pair has the judge's.

    Raises PrefmillError for a folder that is no run, a run without pairs, a pair whose image is not in the run, and,
    with `margins`, a pair that was not judged.
    """
    run = Run.open(run_folder)
    pairs = list(run.dataset("pairs", Pair))
    if not pairs:
        raise PrefmillError(
            f"{run_folder} holds no pairs to train on",
            f"see `prefmill show {run_folder} pairs --rejects` for why none was made, or make some with "
            f"`prefmill run ... --to {run_folder}`",
        )
    images = RunImages(run_folder).sizes()
    missing = [pair for pair in pairs if pair.image_id not in images]
    if missing:
        raise PrefmillError(
            f"{len(missing)} of {len(pairs)} pairs have no image in {run_folder}; the first is pair {missing[0].id}, "
            f"which needs image {missing[0].image_id}",
            f"make the run whole with `prefmill run ... --to {run_folder}`",
        )
    return _with_margins(pairs, run) if margins else pairs


def _with_margins(pairs: list[Pair], run: Run) -> list[Pair]:
    """Take the margin of a pair that lacks it from the scores of its answers."""
    margins = {pair.id: pair.margin for pair in pairs if pair.margin is not None}
    unknown = [pair for pair in pairs if pair.margin is None]
    answers = [answer for pair in unknown for answer in (pair.chosen_id, pair.rejected_id) if answer]
    found = run.dataset("response_scores", Score).matching("subject_id", answers) if answers else ()
    scores: dict[str | None, float] = {score.subject_id: score.value for score in found}
    for pair in unknown:
        margins[pair.id] = scores.get(pair.chosen_id, math.nan) - scores.get(pair.rejected_id, math.nan)
    missing = [pair for pair in pairs if not math.isfinite(margins[pair.id])]
    if missing:
        raise PrefmillError(
            f"{len(missing)} of {len(pairs)} pairs in {run.folder} have no margin of a judge to be weighted by; the "
            f"first is pair {missing[0].id}",
            "set margin_weight=none, or import answers instead of pairs, so that they are judged: `prefmill import "
            "--answers`, then `prefmill run imported`",
        )
    return [replace(pair, margin=margins[pair.id]) for pair in pairs]


def pairs_digest(pairs: Sequence[Pair], *, margins: bool = False) -> str:
    """Return the SHA-256 over what a training sees of the pairs: ids, image ids and texts, in order; or margins too."""
    digest = hashlib.sha256()
    for pair in pairs:
        fields = [pair.id, pair.image_id, pair.instruction, pair.chosen, pair.rejected]
        digest.update(json.dumps([*fields, pair.margin] if margins else fields, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def hold_out(pairs: Sequence[Pair], prompts: Mapping[str, str], share: float) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs to train on and those to evaluate, in their order. `prompts`: see RunImages.

    All pairs of a prompt are on one side, and which one depends on the prompt alone: neither the seed nor what else is
    in the run moves it. So the share is met on average. Raises PrefmillError where a side would be empty.
    """
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        sides[is_held_out(prompts[pair.image_id], share)].append(pair)
    if share and not all(sides):
        raise PrefmillError(
            f"eval_share={share:g} would hold out {len(sides[1])} of {len(pairs)} pairs, in whole prompts",
            "set another eval_share, or 0 to train on all pairs",
        )
    return sides


class RunImages:
    """The images of a run by id, read when asked for. Can be sent to another process, which opens its own files.

    They lie in the folder `candidates`, or in one `candidates-NAME` for each of several generators.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        folders = sorted(path for path in run_folder.glob("candidates*") if _holds_candidates(path.name))
        self._candidates = [Run(run_folder).dataset(folder.name, Candidate) for folder in folders]

    def __getstate__(self) -> dict[str, Any]:
        return {"run_folder": self.run_folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["run_folder"])

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return width and height in pixels of every image, without reading the images."""
        return {image_id: (width, height) for image_id, width, height in self._rows("id", "width", "height")}

    def prompts(self) -> dict[str, str]:
        """Return what every image was drawn for: its prompt's id, or its own where it has no prompt."""
        return {image_id: prompt_id or image_id for image_id, prompt_id in self._rows("id", "prompt_id")}

    def digest(self) -> str:
        """Return the SHA-256 over the checksums of all image shards."""
        checksums = (shard.checksum for candidates in self._candidates for shard in candidates.shards)
        return hashlib.sha256(" ".join(checksums).encode()).hexdigest()

    def candidate(self, image_id: str) -> Candidate | None:
        """Return an image's row, None where the run does not have it."""
        rows = next((found for found in self._candidates if image_id in found.rows_by("id")), None)
        return None if rows is None else next(iter(rows.take([image_id])))

    def load(self, image_id: str) -> Image.Image:
        """Return an image as RGB. Raises PrefmillError, with the image's id, when its bytes are not an image."""
        candidate = self.candidate(image_id)
        if candidate is None:
            raise KeyError(image_id)
        try:
            return decode_image(candidate.image)
        except PrefmillError as error:
            raise PrefmillError(f"image {image_id} of {self.run_folder}: {error.message}", error.fix) from error

    def _rows(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """The values of some columns, row by row."""
        for candidates in self._candidates:
            yield from zip(*(candidates.column(name) for name in names), strict=True)


def _holds_candidates(folder: str) -> bool:
    return folder == "candidates" or folder.startswith("candidates-")


def conversation(instruction: str, system_prompt: str | None = None) -> list[dict[str, str]]:
    """Return the messages that ask about an image; the image itself travels in the column `images`."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": instruction}]


def preference_dataset(pairs: Sequence[Pair], images: RunImages, system_prompt: str | None = None) -> datasets.Dataset:
    """Return the pairs in TRL's vision-preference columns, in their order, images decoded row by row on access.

    `images` is a list with one RGB image; `prompt`, `chosen` and `rejected` are lists of messages. `id` is the pair's.
    """
    import datasets

    table = datasets.Dataset.from_dict(
        {
            "id": [pair.id for pair in pairs],
            "image_id": [pair.image_id for pair in pairs],
            "prompt": [conversation(pair.instruction, system_prompt) for pair in pairs],
            "chosen": [[{"role": "assistant", "content": pair.chosen}] for pair in pairs],
            "rejected": [[{"role": "assistant", "content": pair.rejected}] for pair in pairs],
        }
    )

    def with_images(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**rows, "images": [[images.load(image_id)] for image_id in rows["image_id"]]}

    return table.with_transform(with_images)
