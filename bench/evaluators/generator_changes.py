"""The pictures that tuning changed most: base and tuned side by side, the largest gains and the largest losses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...base.files import replacing
from ...engine.images import UnreadableImage, decode_image
from ...pipeline.records import Candidate
from ...pipeline.store import Run
from .generator import BASE
from .generator_values import Evaluated

_TILE, _CAPTION, _GAP = 160, 30, 16


@dataclass(frozen=True)
class Change:
    """One prompt, guidance and seed, drawn by both. `values` are those of every measure, [base, tuned]."""

    prompt: str
    guidance: float
    seed: int
    difference: float
    before: bytes
    after: bytes
    values: dict[str, tuple[float, float]]


def largest_changes(
    run: Run, found: Evaluated, name: str, measure: str, shown: int
) -> tuple[list[Change], list[Change]]:
    """Return the `shown` largest gains and the `shown` largest losses of a measure, the largest first.

    What did not change is in neither.
    """
    differences = (found.measures[measure][name] - found.measures[measure][BASE]).ravel()
    known = np.flatnonzero(np.isfinite(differences))
    order = known[np.argsort(differences[known], kind="stable")].tolist()
    losses = [place for place in order[:shown] if differences[place] < 0]
    gains = [place for place in order[::-1][:shown] if differences[place] > 0]
    sides = [
        [_change(run, found, name, place, float(differences[place])) for place in side] for side in (gains, losses)
    ]
    return sides[0], sides[1]


def _change(run: Run, found: Evaluated, name: str, place: int, difference: float) -> Change:
    before, after = (
        next(run.dataset(f"candidates-{own}", Candidate).take([found.ids[own].flat[place]])) for own in (BASE, name)
    )
    prompt = found.prompts[place // found.ids[name][0].size]
    values = {
        measure: (float(own[BASE].flat[place]), float(own[name].flat[place])) for measure, own in found.measures.items()
    }
    guidance, seed = before.guidance or 0.0, before.seed or 0
    return Change(prompt.text, guidance, seed, difference, before.image, after.image, values)


def write_picture(path: Path, gains: list[Change], losses: list[Change]) -> bool:
    """Draw both sides into a PNG, gains on the left; return whether there was anything to draw."""
    lines = max(len(gains), len(losses))
    if not lines:
        return False
    side = 2 * _TILE + _GAP
    sheet = Image.new("RGB", (2 * side + _GAP, _CAPTION + lines * (_TILE + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for left, title, changes in ((_GAP, "largest gains", gains), (side + _GAP, "largest losses", losses)):
        draw.text((left, 8), f"{title}: base, tuned", fill="black")
        for number, change in enumerate(changes):
            top = _CAPTION + number * (_TILE + _CAPTION)
            for offset, data in ((0, change.before), (_TILE, change.after)):
                if (tile := _tile(data)) is not None:
                    sheet.paste(tile, (left + offset, top))
            prompt = change.prompt.encode("ascii", "replace").decode()  # the built-in font has no other letters
            told = f"{change.difference:+.4g}  guidance {change.guidance:g}, seed {change.seed}"
            draw.text((left, top + _TILE), f"{told}\n{prompt[:52]}", fill="black")
    with replacing(path) as fresh:
        sheet.save(fresh, "PNG")
    return True


def _tile(data: bytes) -> Image.Image | None:
    try:
        image = decode_image(data)
    except UnreadableImage:
        return None
    longest = max(image.size)
    size = tuple(max(1, side * (_TILE - 4) // longest) for side in image.size)
    # small pictures keep their pixels
    return image.resize(size, Image.Resampling.NEAREST if longest < _TILE else Image.Resampling.LANCZOS)  # type: ignore[arg-type]
