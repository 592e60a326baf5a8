"""What a run gives to a generator's training: prompts, preferences between images, and the images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...base.errors import PrefmillError
from ...engine.images import decode_image
from ...pipeline.records import Candidate, ImagePreference, Prompt
from ...pipeline.store import Run
from ..data import RunImages


@dataclass(frozen=True, slots=True)
class ImagePair:
    """Two images of one prompt, the better one first."""

    id: str
    prompt: str
    chosen_id: str
    rejected_id: str


def load_prompts(run_folder: Path) -> list[Prompt]:
    """A run's prompts in their order. Raises PrefmillError for a folder that is no run, and a run without prompts."""
    prompts = list(Run.open(run_folder).dataset("prompts", Prompt))
    if not prompts:
        raise PrefmillError(
            f"{run_folder} holds no prompts to draw from", f"give it some: `prefmill run ... --to {run_folder}`"
        )
    return prompts


def load_image_pairs(run_folder: Path, aspect: str) -> list[ImagePair]:
    """A run's preferences by one aspect, in their order. Raises PrefmillError where there are none."""
    run = Run.open(run_folder)
    rows = list(run.dataset("image_preferences", ImagePreference))
    pairs = [ImagePair(row.id, row.prompt, row.chosen_id, row.rejected_id) for row in rows if row.aspect == aspect]
    if not pairs:
        found = ", ".join(sorted({row.aspect for row in rows})) or "none at all"
        raise PrefmillError(
            f"{run_folder} holds no preferences between images by {aspect} (it has: {found})",
            f"make some with `prefmill annotate {run_folder}`, or draw and compare while training: "
            "--set flow_dpo.online=true",
        )
    return pairs


def digest_of(ids: Sequence[str]) -> str:
    """SHA-256 over ids in their order: what a training was about."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


class StoredImages:
    """The images of a run by id, whichever generator drew them."""

    def __init__(self, run_folder: Path) -> None:
        self._images, self._folder = RunImages(Run.open(run_folder).folder), run_folder

    def candidate(self, image_id: str) -> Candidate:
        """One image's row. Raises PrefmillError where the run does not have it."""
        candidate = self._images.candidate(image_id)
        if candidate is None:
            raise PrefmillError(
                f"image {image_id}, which a preference names, is not in {self._folder}",
                f"make the run whole with `prefmill run ... --to {self._folder}`",
            )
        return candidate

    def pixels(self, candidate: Candidate, width: int, height: int) -> torch.Tensor:
        """An image as float32 [3, H, W] in 0 to 1. Raises PrefmillError for one of another size, or unreadable."""
        picture = decode_image(candidate.image)
        if picture.size != (width, height):
            raise PrefmillError(
                f"image {candidate.id} has {picture.width} x {picture.height} pixels, the training {width} x {height}",
                f"set width={picture.width} and height={picture.height}",
            )
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
