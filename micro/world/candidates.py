"""Candidates: images of every prompt at several guidance scales, as in the paper's loop, judged by the oracle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ...engine.sd3.text_to_image import TextToImage
from ...engine.settings import EngineSettings
from .language import caption
from .oracle import judge
from .render import IMAGE_SIZE
from .scenes import Scene

GUIDANCE: tuple[float, ...] = (5.0, 7.0, 9.0, 11.0)
STEPS = 8
_BATCH = 64


@dataclass(frozen=True)
class Candidates:
    """N prompts with G images each: `images` uint8 [N, G, 32, 32, 3], and per image what the oracle says of it.

    `shown` is the scene it reads; `exact` (bool), `alignment` and `residual` are arrays [N, G] (see Verdict).
    """

    scenes: list[Scene]
    images: np.ndarray
    shown: list[list[Scene]]
    exact: np.ndarray
    alignment: np.ndarray
    residual: np.ndarray

    @property
    def prompts(self) -> list[str]:
        """One prompt per scene."""
        return [caption(scene) for scene in self.scenes]

    def __add__(self, other: "Candidates") -> "Candidates":
        """All prompts of both."""
        images, exact, alignment, residual = (
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("images", "exact", "alignment", "residual")
        )
        return Candidates(self.scenes + other.scenes, images, self.shown + other.shown, exact, alignment, residual)

    def subset(self, rows: Sequence[int]) -> "Candidates":
        """Some of the prompts with their images."""
        kept = list(rows)
        return Candidates(
            [self.scenes[row] for row in kept],
            self.images[kept],
            [self.shown[row] for row in kept],
            self.exact[kept],
            self.alignment[kept],
            self.residual[kept],
        )


def open_generator(folder: Path, dtype: Literal["float32", "bfloat16"] = "float32") -> TextToImage:
    """The micro generator on the CPU, without empty tokens in place of the T5 that it does not have."""
    return TextToImage.from_pretrained(str(folder), EngineSettings(device="cpu", dtype=dtype), t5_tokens=0)


def draw_candidates(
    model: TextToImage,
    scenes: Sequence[Scene],
    seed: int,
    *,
    guidance: Sequence[float] = GUIDANCE,
    steps: int = STEPS,
) -> Candidates:
    """Draw an image of every scene at every guidance scale, each from noise of its own, and judge them."""
    rows = [(caption(scene), scale) for scene in scenes for scale in guidance]
    seeds = np.random.default_rng(seed).integers(2**62, size=len(rows)).tolist()
    images = []
    for start in range(0, len(rows), _BATCH):
        batch = slice(start, start + _BATCH)
        prompts, scales = zip(*rows[batch], strict=True)
        drawn = model.generate(prompts, scales, seeds[batch], steps=steps, width=IMAGE_SIZE, height=IMAGE_SIZE)
        images.append(drawn.images.cpu().numpy())
    return judged_groups(scenes, np.concatenate(images))


def judged_groups(scenes: Sequence[Scene], pixels: np.ndarray) -> Candidates:
    """Hold images uint8 [N * G, 32, 32, 3], G for each of N scenes in turn, against what they should show."""
    group = len(pixels) // len(scenes)
    verdicts = judge(pixels, [scene for scene in scenes for _ in range(group)])
    shape = (len(scenes), group)
    return Candidates(
        list(scenes),
        pixels.reshape(*shape, *pixels.shape[1:]),
        [
            [verdict.reading.scene for verdict in verdicts[start : start + group]]
            for start in range(0, len(verdicts), group)
        ],
        np.array([verdict.exact for verdict in verdicts]).reshape(shape),
        np.array([verdict.alignment for verdict in verdicts]).reshape(shape),
        np.array([verdict.reading.residual for verdict in verdicts]).reshape(shape),
    )
