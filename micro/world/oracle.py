"""The oracle: an image back to its scene, exactly, by the nearest of all possible drawings of each cell.

Per ground every cell has 649 drawings: nothing, or 12 kinds x 6 colours x 9 shifts. The ground that explains the four
cells best together is the image's. The distance that remains is its fidelity residual: how far it is from anything
that can be drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ...base.errors import PrefmillError
from .render import BACKGROUND_VALUES, CELL_SIZE, IMAGE_SIZE, JITTER, draw_cell
from .scenes import BACKGROUNDS, COLOURS, KINDS, Item, Scene
from .truth import alignment

_BATCH = 256
_MIDDLE = 128
_SOFTENING = 0.7
"""Both sides are compared through a blur of this many pixels. Without it, images with a blur of 1 pixel were read
wrongly in 12 % of the cases, and JPEG at quality 20 in 4 %; with it in 0 % and 0.1 %."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is in an image, and how far it is from the nearest drawing: root mean square, in grey levels of 255.

    A generated image may show one kind twice; `scene` then does too.
    """

    scene: Scene
    residual: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """An image held against the scene that was asked for.

    `alignment` is that of the scenes; `exact`: same ground, same objects in the same places and no other.
    """

    reading: Reading
    alignment: float

    @property
    def exact(self) -> bool:
        """Whether everything is as asked."""
        return self.alignment == 1


@dataclass(frozen=True)
class _Drawings:
    pixels: torch.Tensor  # [B, N, 768] float32, per background
    softened: torch.Tensor  # [B, N, 768]: S'S t for drawing t, so that x . S'S t = (Sx) . (St)
    squares: torch.Tensor  # [B, N]: |St|^2
    items: list[tuple[str, str] | None]  # N, the first is nothing


def read_images(images: np.ndarray | torch.Tensor) -> list[Reading]:
    """Read uint8 images [N, 32, 32, 3], or one [32, 32, 3]. Raises PrefmillError for other shapes or types."""
    # a copy: decoded images are read-only
    pixels = images if isinstance(images, torch.Tensor) else torch.from_numpy(images.copy())
    if pixels.ndim == 3:
        pixels = pixels[None]
    if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise PrefmillError(
            f"the oracle reads uint8 images [N, 32, 32, 3], not {pixels.dtype} {list(pixels.shape)}.",
            "draw at the micro world's size, 32 x 32",
        )
    return [reading for batch in pixels.cpu().split(_BATCH) for reading in _read_batch(batch)]


def judge(images: np.ndarray | torch.Tensor, scenes: Sequence[Scene]) -> list[Verdict]:
    """Hold uint8 images [N, 32, 32, 3] against the N scenes they were drawn for."""
    readings = read_images(images)
    if len(readings) != len(scenes):
        raise PrefmillError(f"{len(readings)} images came with {len(scenes)} scenes.", "give one scene per image")
    return [Verdict(reading, alignment(scene, reading.scene)) for reading, scene in zip(readings, scenes, strict=True)]


def _read_batch(images: torch.Tensor) -> list[Reading]:
    drawings = _drawings()
    count = len(images)
    cells = images.view(count, 2, CELL_SIZE, 2, CELL_SIZE, 3).permute(0, 1, 3, 2, 4, 5)
    flat = cells.reshape(count * 4, -1).float() - _MIDDLE
    # |Sx - St|^2 without its |Sx|^2, which is the same for every drawing
    distances = drawings.squares[:, None, :] - 2 * torch.einsum("xd,bnd->bxn", flat, drawings.softened)
    best, index = (result.view(len(BACKGROUNDS), count, 4) for result in distances.min(-1))
    background = best.sum(-1).argmin(0)
    chosen = index[background, torch.arange(count)]
    nearest = drawings.pixels[background[:, None], chosen]
    residuals = (flat.view(count, 4, -1) - nearest).square().mean((1, 2)).sqrt()
    return [
        Reading(_scene(row, BACKGROUNDS[ground], drawings), residual)
        for row, ground, residual in zip(chosen.tolist(), background.tolist(), residuals.tolist(), strict=True)
    ]


def _scene(chosen: list[int], background: str, drawings: _Drawings) -> Scene:
    found = [(cell, drawings.items[number]) for cell, number in enumerate(chosen)]
    return Scene(tuple(Item(cell, *item) for cell, item in found if item is not None), background)


@cache
def _drawings() -> _Drawings:
    shifts = range(-JITTER, JITTER + 1)
    items: list[tuple[str, str] | None] = [None]
    items += [(kind, colour) for kind in KINDS for colour in COLOURS for _ in shifts for _ in shifts]
    grounds = []
    for background in BACKGROUNDS:
        empty = np.full((CELL_SIZE, CELL_SIZE, 3), BACKGROUND_VALUES[background], np.uint8)
        drawn = [
            draw_cell(kind, colour, background, down, right)
            for kind in KINDS
            for colour in COLOURS
            for down in shifts
            for right in shifts
        ]
        grounds.append(np.stack([empty, *drawn]).reshape(len(items), -1))
    pixels = torch.from_numpy(np.stack(grounds)).float() - _MIDDLE
    soften = _softening()
    softened = torch.einsum("pq,bnqc->bnpc", soften, pixels.view(*pixels.shape[:2], -1, 3))
    twice = torch.einsum("qp,bnqc->bnpc", soften, softened)
    return _Drawings(pixels, twice.flatten(2).contiguous(), softened.flatten(2).square().sum(-1), items)


def _softening() -> torch.Tensor:
    """A Gaussian blur inside a cell, as a matrix [256, 256]."""
    places = torch.arange(CELL_SIZE, dtype=torch.float32)
    weights = torch.exp((places[:, None] - places).square() / (-2 * _SOFTENING**2))
    weights /= weights.sum(1, keepdim=True)
    return torch.kron(weights, weights)
