"""Scenes to pixels: 32 x 32 RGB, four cells of 16, each sprite moved by up to one pixel from its cell's middle.

The corruptions are the ways in which a generated image differs from a rendered one, with a level in a unit of their
own, so that the oracle's accuracy can be stated for each.
"""

import io
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from .scenes import Scene
from .sprites import SPRITE_SIZE, masks

IMAGE_SIZE = 32
CELL_SIZE = 16
JITTER = 1
"""Largest shift in pixels, in each direction."""

Corruption = Literal["noise", "blur", "jpeg", "shift"]

COLOUR_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 45),
    "orange": (246, 136, 26),
    "yellow": (250, 222, 70),
    "green": (46, 160, 67),
    "blue": (45, 95, 220),
    "purple": (150, 65, 190),
}
BACKGROUND_VALUES: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "gray": (150, 150, 150),
    "black": (18, 18, 18),
}
_DARKER = 0.55


def render(scene: Scene, seed: int | None = None) -> np.ndarray:
    """Draw a scene: uint8 [32, 32, 3]. `seed` decides each object's jitter; without one it stands in the middle."""
    image = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    image[:] = BACKGROUND_VALUES[scene.background]
    random = None if seed is None else np.random.default_rng(seed)
    for item in scene.items:
        down, right = (0, 0) if random is None else random.integers(-JITTER, JITTER + 1, size=2)
        row, column = divmod(item.cell, 2)
        cell = draw_cell(item.kind, item.colour, scene.background, int(down), int(right))
        image[row * CELL_SIZE :, column * CELL_SIZE :][:CELL_SIZE, :CELL_SIZE] = cell
    return image


def render_all(scenes: Sequence[Scene], seed: int) -> np.ndarray:
    """Draw scenes with jitter of their own: uint8 [N, 32, 32, 3]."""
    seeds = np.random.default_rng(seed).integers(2**62, size=len(scenes))
    return np.stack([render(scene, int(own)) for scene, own in zip(scenes, seeds, strict=True)])


@cache
def draw_cell(kind: str, colour: str, background: str, down: int, right: int) -> np.ndarray:
    """One object on its ground: uint8 [16, 16, 3], moved by `down` and `right` pixels."""
    cell = np.empty((CELL_SIZE, CELL_SIZE, 3), np.uint8)
    cell[:] = BACKGROUND_VALUES[background]
    margin = (CELL_SIZE - SPRITE_SIZE) // 2
    inner = cell[margin + down :, margin + right :][:SPRITE_SIZE, :SPRITE_SIZE]
    own, darker = masks(kind)
    inner[own] = COLOUR_VALUES[colour]
    inner[darker] = [round(value * _DARKER) for value in COLOUR_VALUES[colour]]
    cell.flags.writeable = False
    return cell


def corrupt(image: np.ndarray, corruption: Corruption, level: float, seed: int = 0) -> np.ndarray:
    """A damaged copy of uint8 [H, W, 3].

    Levels: `noise` standard deviation in grey levels, `blur` Gaussian radius in pixels, `jpeg` quality (100 is best),
    `shift` grey levels by which each channel moves up or down.
    """
    if corruption == "blur":
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(level)))
    if corruption == "jpeg":
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(level))
        return np.asarray(Image.open(buffer).convert("RGB"))
    random = np.random.default_rng(seed)
    change = random.normal(0, level, image.shape) if corruption == "noise" else level * random.choice([-1, 1], size=3)
    return (image.astype(np.float32) + change).round().clip(0, 255).astype(np.uint8)
