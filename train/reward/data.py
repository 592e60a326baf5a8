"""From a run's preferences between images to what is trained on: the prompts, each with its images and its pairs.

The images of a prompt are read once for all pairs that they are in: four images give up to six pairs of every aspect.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...base.errors import PrefmillError
from ...pipeline.records import ImagePreference, is_held_out
from ...pipeline.store import Run
from ..data import RunImages

PREFERENCES = "image_preferences"


@dataclass(frozen=True)
class ComparedPrompt:
    """A prompt with the images that were compared for it, by id, and the preferences between them."""

    id: str
    text: str
    images: tuple[str, ...]
    preferences: tuple[ImagePreference, ...]


def load_preferences(run_folder: Path, aspects: Sequence[str], *, margins: bool = False) -> list[ImagePreference]:
    """Return a run's preferences by some aspects, in their order; with `margins` every one has a margin.

    Raises PrefmillError for a folder that is no run, a run without preferences, an aspect that it does not have, a
    preference of an image to itself or whose image is not in the run, and, with `margins`, one without a margin.
    """
    run = Run.open(run_folder)
    given = list(run.dataset(PREFERENCES, ImagePreference))
    if not given:
        raise PrefmillError(
            f"{run_folder} holds no preferences between images to train on",
            f"see `prefmill show {run_folder} {PREFERENCES} --rejects` for why none was made, or make some with "
            f"`prefmill annotate {run_folder}`",
        )
    found = dict.fromkeys(preference.aspect for preference in given)
    for aspect in aspects:
        if aspect not in found:
            raise PrefmillError(
                f"{run_folder} has no preferences by {aspect!r}", f"choose aspects among {', '.join(found)}"
            )
    chosen = [preference for preference in given if preference.aspect in aspects]
    _require_images(chosen, run_folder)
    for preference in chosen:
        if preference.chosen_id == preference.rejected_id:
            raise PrefmillError(
                f"preference {preference.id} is of image {preference.chosen_id} to itself",
                f"make the preferences again with `--remake {PREFERENCES}`, or import them without it",
            )
        if margins and not math.isfinite(preference.margin or math.nan):
            raise PrefmillError(f"preference {preference.id} has no margin to be weighted by", "set margin_weight=none")
    return chosen


def preferences_digest(preferences: Sequence[ImagePreference], *, margins: bool = False) -> str:
    """Return the SHA-256 over what a training sees of preferences, in order; their margins only with `margins`."""
    digest = hashlib.sha256()
    for one in preferences:
        fields = [one.id, one.prompt_id, one.prompt, one.aspect, one.chosen_id, one.rejected_id]
        digest.update(json.dumps([*fields, one.margin] if margins else fields, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def split_preferences(
    preferences: Sequence[ImagePreference], share: float
) -> tuple[list[ImagePreference], list[ImagePreference]]:
    """Return the preferences to train on and those to validate with, in whole prompts (see train/data.hold_out).

    Raises PrefmillError where a side would be empty, or an aspect would not be trained.
    """
    sides: tuple[list[ImagePreference], list[ImagePreference]] = ([], [])
    for preference in preferences:
        sides[is_held_out(preference.prompt_id, share)].append(preference)
    trained, held_out = sides
    if share and not (trained and held_out):
        prompts = len({preference.prompt_id for preference in preferences})
        raise PrefmillError(
            f"validation_share={share:g} would hold out {len(held_out)} of {len(preferences)} preferences, in whole "
            f"prompts of {prompts}",
            "set another validation_share, or 0 to train on all of them and keep the last weights",
        )
    lacking = {one.aspect for one in held_out} - {one.aspect for one in trained}
    if lacking:
        raise PrefmillError(
            f"validation_share={share:g} holds out all preferences by {', '.join(sorted(lacking))}",
            "set another validation_share, or leave the aspect out",
        )
    return trained, held_out


def compared_prompts(preferences: Iterable[ImagePreference]) -> list[ComparedPrompt]:
    """Return the preferences by prompt, prompts and images in the order of their first preference."""
    groups: dict[tuple[str, str], list[ImagePreference]] = {}
    for preference in preferences:
        groups.setdefault((preference.prompt_id, preference.prompt), []).append(preference)
    return [
        ComparedPrompt(
            prompt_id,
            text,
            tuple(dict.fromkeys(image for one in group for image in (one.chosen_id, one.rejected_id))),
            tuple(group),
        )
        for (prompt_id, text), group in groups.items()
    ]


def margin_weights(trained: Sequence[ImagePreference], held_out: Sequence[ImagePreference]) -> Mapping[str, float]:
    """Return what each preference counts by its margin, by id; those trained on have mean 1."""
    mean = sum(max(one.margin or 0.0, 0.0) for one in trained) / len(trained)
    if not mean:
        raise PrefmillError("all margins are 0 or below, so that no preference would count", "set margin_weight=none")
    return {one.id: max(one.margin or 0.0, 0.0) / mean for one in [*trained, *held_out]}


def _require_images(preferences: Sequence[ImagePreference], run_folder: Path) -> None:
    images = RunImages(run_folder).sizes()
    for preference in preferences:
        for image in (preference.chosen_id, preference.rejected_id):
            if image not in images:
                raise PrefmillError(
                    f"preference {preference.id} needs image {image}, which is not in {run_folder}",
                    f"make the run whole with `prefmill run ... --to {run_folder}`",
                )
