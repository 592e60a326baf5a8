"""Preferences between images out of a run, in the formats of the data sets that people train image rewards on.

    imagereward   imagereward.json as ImageRewardDB's ({id, prompt, generations, ranking}), images/, annotations.parquet
    hpdv2         hpdv2.json as HPDv2's test set ({prompt, image_path, rank, raw_annotations}), and the same beside it
    image-pairs   Parquet as Pick-a-Pic's, which Diffusion-DPO trains on: one row per preference, images inside, with
                  its aspect and margin, and the ratings of both images with their reasons

A ranking says less than preferences with ties: an image that ties with its neighbours, which do not tie with each
other, has to come between them. It never contradicts a preference: a prompt whose preferences go in a circle has no
ranking, is left out and counted. The output appears under its name only when it is whole.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ...base.errors import PrefmillError
from ...base.files import make_folder, replacing
from ...base.paths import user_path
from ..annotating.settings import OVERALL
from ..candidate_folders import CandidateLookup
from ..records import Annotation, Candidate, ImagePreference
from ..sources import read_rows
from ..store import Dataset, Run
from .preference_writers import PairsWriter, RankingWriter

ImagePreferenceFormat = Literal["imagereward", "hpdv2", "image-pairs"]
IMAGE_PREFERENCE_FORMATS: tuple[ImagePreferenceFormat, ...] = get_args(ImagePreferenceFormat)
STAGE = "image_preferences"


@dataclass(frozen=True)
class ImagePreferenceReport:
    """What was exported: rows (prompts, or pairs), different images, prompts left out by reason, and where it is.

    `untied`: pairs of images without a preference between them that a ranking had to order.
    """

    rows: int
    images: int
    left_out: dict[str, int]
    path: Path
    untied: int = 0


@dataclass(frozen=True)
class JudgedPrompt:
    """A prompt with the preferences between its images, and what annotators said of them, by folder."""

    id: str
    text: str
    preferences: list[ImagePreference]
    annotations: dict[str, list[Annotation]] = field(default_factory=dict)

    @property
    def overall(self) -> list[ImagePreference]:
        """The preferences by all aspects together."""
        return [preference for preference in self.preferences if preference.aspect == OVERALL]

    @property
    def images(self) -> list[str]:
        """The images that take part in an overall preference, or were rated, in the order they are met."""
        named = [image for one in self.overall for image in (one.chosen_id, one.rejected_id)]
        rated = [row.subject_id for rows in self.annotations.values() for row in rows if row.rating is not None]
        return list(dict.fromkeys([*named, *rated]))


def export_image_preferences(run: Run, output: Path, format: ImagePreferenceFormat) -> ImagePreferenceReport:
    """Write a run's preferences between images to `output`, which must not exist yet.

    Raises PrefmillError when there are none, when an image is missing, when the output exists or cannot be written;
    nothing is left of it then.
    """
    output = user_path(output, "--to")
    if output.exists() or output.is_symlink():
        raise PrefmillError(f"{output} exists already", "choose another --to, or delete it first")
    preferences = run.dataset(STAGE, ImagePreference)
    if not len(preferences):
        raise PrefmillError(
            f"{run.folder} holds no preferences between images",
            f"make some with `prefmill annotate`, or import some with `prefmill import --image-preferences`; then "
            f"export {run.folder}",
        )
    candidates = CandidateLookup(run)
    make_folder(output.parent)
    with replacing(output) as temporary, ExitStack() as stack:
        if format == "image-pairs":
            pairs = stack.enter_context(PairsWriter(temporary, single=output.suffix == ".parquet"))
            for prompt in judged_prompts(run):
                ratings = _by_image(prompt)
                for preference in prompt.preferences:
                    sides = [_image(candidates, image, run) for image in (preference.chosen_id, preference.rejected_id)]
                    pairs.add(preference, sides[0], sides[1], ratings)
            report = ImagePreferenceReport(pairs.rows, len(pairs.images.names), {}, output)
        else:
            writer = stack.enter_context(RankingWriter(temporary, format))
            left_out, untied = Counter[str](), 0
            for prompt in judged_prompts(run):
                images = prompt.images
                if (reason := _why_unranked(prompt, images)) is not None:
                    left_out[reason] += 1
                    continue
                scores = standing(images, prompt.overall)
                untied += _ordered(scores) - len({frozenset((p.chosen_id, p.rejected_id)) for p in prompt.overall})
                pictures = [_image(candidates, image, run) for image in images]
                writer.add(prompt.id, prompt.text, pictures, scores, prompt.annotations)
            report = ImagePreferenceReport(writer.rows, len(writer.images.names), dict(left_out), output, untied)
            if not writer.rows:
                told = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
                raise PrefmillError(f"no prompt of {run.folder} has a ranking ({told})", "--format image-pairs")
    return report


def judged_prompts(run: Run) -> Iterator[JudgedPrompt]:
    """Yield every prompt that has preferences, with all that was said of its images; one prompt is in memory."""
    preferences = run.dataset(STAGE, ImagePreference)
    annotations = {
        name: (dataset := run.dataset(name, Annotation), _rows_of(dataset))
        for name in run.stages()
        if name.startswith("annotations-")
    }
    for prompt, rows in _rows_of(preferences).items():
        own = list(read_rows(preferences, rows).values())
        said = {
            name: list(read_rows(dataset, places.get(prompt, ())).values())
            for name, (dataset, places) in annotations.items()
        }
        yield JudgedPrompt(prompt, own[0].prompt, own, said)


def standing(images: Sequence[str], preferences: Sequence[ImagePreference]) -> list[int]:
    """Return for every image how many it is preferred to, less how many are preferred to it."""
    won, lost = Counter(one.chosen_id for one in preferences), Counter(one.rejected_id for one in preferences)
    return [won[image] - lost[image] for image in images]


def _why_unranked(prompt: JudgedPrompt, images: Sequence[str]) -> str | None:
    if not prompt.overall:
        return "without an overall preference"
    scores = dict(zip(images, standing(images, prompt.overall), strict=True))
    if any(scores[one.chosen_id] <= scores[one.rejected_id] for one in prompt.overall):
        return "with contradictory preferences"
    return None


def _ordered(scores: Sequence[int]) -> int:
    """How many pairs of images have different places."""
    return sum(one != other for place, one in enumerate(scores) for other in scores[:place])


def _by_image(prompt: JudgedPrompt) -> dict[str, list[Annotation]]:
    found: dict[str, list[Annotation]] = defaultdict(list)
    for rows in prompt.annotations.values():
        for row in rows:
            found[row.subject_id].append(row)
    return found


def _rows_of(dataset: Dataset[Any]) -> dict[str, list[int]]:
    """The rows of every prompt, in the order in which prompts are met."""
    places: dict[str, list[int]] = {}
    for row, prompt in enumerate(dataset.column("prompt_id")):
        places.setdefault(prompt, []).append(row)
    return places


def _image(candidates: CandidateLookup, identity: str, run: Run) -> Candidate:
    if identity not in candidates:
        raise PrefmillError(
            f"a preference is about image {identity}, which {run.folder} does not hold",
            "give `prefmill run` for this run again: it makes missing rows",
        )
    return candidates[identity]
