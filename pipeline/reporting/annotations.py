"""What annotators said of a prompt's images, as a page shows it: ratings, reasons, radars, and the order they give.

A radar has an axis for every aspect, from 1 in the middle to 5 at the rim, and a line for every annotator; it is drawn
as SVG inside the page. Everything here goes through the template's escaping.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...engine.responders.image_ratings import ASPECTS
from ..annotating.settings import OVERALL
from ..records import Annotation, ImagePreference
from ..store import Run

PREFIX = "annotations-"
COLOURS = ("#1f5fbf", "#c2571a", "#14804a", "#7a3fa0", "#66707a")
REASON = 600  # characters of a reason that are shown
_RADIUS, _CENTRE, _LOWEST, _HIGHEST = 62.0, 100.0, 1, 5


@dataclass
class RatedImage:
    """What was said of one image: mean ratings by annotator and aspect (None: all abstained), and the reasons."""

    ratings: dict[str, dict[str, float | None]] = field(default_factory=dict)
    reasons: list[dict[str, Any]] = field(default_factory=list)
    radar: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotated:
    """The annotations of some prompts: images by id, the order of each prompt's images by aspect, and who annotated."""

    images: dict[str, RatedImage]
    orders: dict[str, dict[str, list[list[str]]]]
    annotators: dict[str, str]
    """Their colours."""
    aspects: list[str]


def annotations_of(run: Run, prompts: Sequence[str]) -> Annotated:
    """Return what was said of the images of some prompts; other rows are not held. Empty where nothing was."""
    folders = [name for name in run.stages() if name.startswith(PREFIX)]
    rows = {
        name.removeprefix(PREFIX): list(run.dataset(name, Annotation).matching("prompt_id", prompts))
        for name in folders
    }
    met = dict.fromkeys(row.aspect for own in rows.values() for row in own)
    aspects = [*(name for name in ASPECTS if name in met), *(name for name in met if name not in ASPECTS)]
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(rows)}
    images = _images(rows, aspects)
    for image in images.values():
        image.radar = radar(image.ratings, aspects, colours)
    return Annotated(images, _orders(run, prompts), colours, aspects)


def _images(rows: dict[str, list[Annotation]], aspects: Sequence[str]) -> dict[str, RatedImage]:
    images: dict[str, RatedImage] = defaultdict(RatedImage)
    for annotator, own in rows.items():
        said: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
        for row in own:
            said[row.subject_id, row.aspect].append(row)
        for subject in dict.fromkeys(row.subject_id for row in own):
            image = images[subject]
            image.ratings[annotator] = {aspect: _mean(said.get((subject, aspect), [])) for aspect in aspects}
            for aspect in aspects:
                for row in said.get((subject, aspect), []):
                    if row.reason:
                        reason = row.reason if len(row.reason) <= REASON else f"{row.reason[:REASON]}..."
                        told = {"annotator": annotator, "aspect": aspect, "rating": row.rating, "reason": reason}
                        image.reasons.append(told | {"presentation": row.presentation, "position": row.position})
    return images


def _mean(rows: Sequence[Annotation]) -> float | None:
    ratings = [row.rating for row in rows if row.rating is not None]
    return sum(ratings) / len(ratings) if ratings else None


def _orders(run: Run, prompts: Sequence[str]) -> dict[str, dict[str, list[list[str]]]]:
    """The images of each prompt by aspect, the best first; those that no preference parts stand together."""
    found: dict[str, dict[str, list[ImagePreference]]] = defaultdict(lambda: defaultdict(list))
    for row in run.dataset("image_preferences", ImagePreference).matching("prompt_id", prompts):
        found[row.prompt_id][row.aspect].append(row)
    return {
        prompt: {aspect: order_of(own[aspect]) for aspect in sorted(own, key=lambda name: (name != OVERALL, name))}
        for prompt, own in found.items()
    }


def order_of(preferences: Sequence[ImagePreference]) -> list[list[str]]:
    """Return groups of images, the best first, by how many each is preferred to less how many are preferred to it."""
    standing = Counter[str]()
    for row in preferences:
        standing[row.chosen_id] += 1
        standing[row.rejected_id] -= 1
    groups: dict[int, list[str]] = defaultdict(list)
    for image, value in standing.items():
        groups[value].append(image)
    return [groups[value] for value in sorted(groups, reverse=True)]


def radar(
    ratings: dict[str, dict[str, float | None]], aspects: Sequence[str], colours: dict[str, str]
) -> dict[str, Any]:
    """Return the shapes of a radar, 200 x 200: rings, axes with labels, and a line per annotator.

    An aspect without a rating has no point; the line goes on to the next.
    """
    lines = []
    for annotator, own in ratings.items():
        known = [(place, value) for place, aspect in enumerate(aspects) if (value := own[aspect]) is not None]
        points = " ".join(_point(place, len(aspects), value) for place, value in known)
        if known:
            lines.append({"annotator": annotator, "points": points, "colour": colours[annotator]})
    rings = [
        " ".join(_point(place, len(aspects), ring) for place in range(len(aspects)))
        for ring in range(_LOWEST + 1, _HIGHEST + 1)
    ]
    labels = []
    for place, aspect in enumerate(aspects):
        x, y = _spot(place, len(aspects), _RADIUS + 14)
        anchor = "middle" if abs(x - _CENTRE) < 1 else "start" if x > _CENTRE else "end"
        rim = _point(place, len(aspects), _HIGHEST)
        labels.append(
            {"text": aspect.replace("_", " "), "x": f"{x:.1f}", "y": f"{y:.1f}", "anchor": anchor, "rim": rim}
        )
    return {"lines": lines, "rings": rings, "labels": labels}


def _point(place: int, count: int, value: float) -> str:
    x, y = _spot(place, count, _RADIUS * (value - _LOWEST) / (_HIGHEST - _LOWEST))
    return f"{x:.1f},{y:.1f}"


def _spot(place: int, count: int, radius: float) -> tuple[float, float]:
    angle = 2 * math.pi * place / max(count, 1)
    return _CENTRE + radius * math.sin(angle), _CENTRE - radius * math.cos(angle)
