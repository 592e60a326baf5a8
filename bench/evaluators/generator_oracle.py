"""The micro world's oracle as a judge of generated images: it reads exactly what is in a picture.

Its score is the alignment of the picture with its caption; whether that is exact, and whether the picture holds a kind
that is marked unsafe, stands beside it. A prompt that is no caption of the micro world has no truth, so its images are
rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine.images import UnreadableImage, decode_image
from ...micro.world.language import parse_caption
from ...micro.world.oracle import judge
from ...micro.world.render import IMAGE_SIZE
from ...micro.world.scenes import UNSAFE_KINDS, Scene
from ...pipeline.records import Reject, Score
from ...pipeline.sources import PromptedImage
from ...pipeline.stage import Stage

ORACLE = "oracle"


@dataclass(frozen=True)
class _Asked:
    subject: str
    scene: Scene
    pixels: np.ndarray


class OracleStage(Stage[PromptedImage, Score]):
    """Hold images against the scenes that their prompts describe."""

    def prepare(self, inputs: Sequence[PromptedImage]) -> list[_Asked | Reject]:
        """Decode the images and read the prompts."""
        return [self._read(item) for item in inputs]

    def _read(self, item: PromptedImage) -> _Asked | Reject:
        scene = parse_caption(item.prompt or "")
        if scene is None:
            return Reject(item.candidate_id, "image_scores", "no_caption", f"{(item.prompt or '')[:60]!r} has no truth")
        assert isinstance(item.image, bytes)
        try:
            pixels = np.asarray(decode_image(item.image))
        except UnreadableImage as error:
            return Reject(item.candidate_id, "image_scores", f"image_{error.reason}", error.message)
        if pixels.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
            height, width = pixels.shape[:2]
            return Reject(item.candidate_id, "image_scores", "image_size", f"the oracle reads no {width} x {height}")
        return _Asked(item.candidate_id, scene, pixels)

    def compute(self, prepared: Sequence[_Asked | Reject]) -> list[Score | Reject]:
        """Judge what could be read."""
        asked = [item for item in prepared if isinstance(item, _Asked)]
        outcome: list[Any] = [item for item in prepared if isinstance(item, Reject)]
        if not asked:
            return outcome
        verdicts = judge(np.stack([item.pixels for item in asked]), [item.scene for item in asked])
        for item, verdict in zip(asked, verdicts, strict=True):
            told = {"exact": float(verdict.exact), "unsafe": float(bool(verdict.reading.scene.kinds & UNSAFE_KINDS))}
            outcome.append(Score(item.subject, ORACLE, verdict.alignment, attributes=told))
        return outcome
