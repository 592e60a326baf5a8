"""Ratings to preferences. The formula is ours: VisionPrefer's is not published.

Two images are compared by what was said of both, so that an annotator who rated one of them alone, and who may be a
strict one, moves nothing. With r the mean over an annotator's presentations, w the weights of annotators and v those of
aspects:

    difference in an aspect  = sum over annotators of w (r(one) - r(other)) / sum of w      of those who rated both
    difference overall       = sum over aspects of v (difference in it) / sum of v          of aspects that have one

Where nothing is missing these are the differences of the weighted means. Beyond the tie band the image with more is
preferred, with the difference as the margin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from ...engine.responders.image_ratings import ASPECTS
from ..records import ImagePreference, Reject, content_id
from .ratings import RatedPrompt
from .settings import OVERALL, PreferConfig

_ROUNDING = 1e-9  # a third and a third and a third


@dataclass(frozen=True)
class Comparison:
    """Two images by an aspect or overall: how much better the first is, None where nothing was said of both."""

    by: str
    one: str
    other: str
    difference: float | None

    def is_tie(self, band: float) -> bool:
        """Return whether the two were compared and are no preference."""
        return self.difference is not None and abs(self.difference) <= band + _ROUNDING


def comparisons(rated: RatedPrompt, config: PreferConfig) -> Iterator[Comparison]:
    """Yield every two images of a prompt by all that `config.by` names."""
    for one, other in combinations(rated.images, 2):
        differences = {aspect: _difference(rated, aspect, one, other, config.annotators) for aspect in ASPECTS}
        for by in config.by:
            found = _overall(differences, config) if by == OVERALL else differences[by]
            yield Comparison(by, one, other, found)


def preferences(rated: RatedPrompt, config: PreferConfig, stage: str) -> list[ImagePreference | Reject]:
    """Return a preference for every two images that differ, or a reject with the reason why there is none at all."""
    compared = list(comparisons(rated, config))
    found = [_preference(rated, one) for one in compared if one.difference and not one.is_tie(config.tie_band)]
    return list(found) or [Reject(rated.prompt.id, stage, *_why_none(rated, compared, config))]


def _why_none(rated: RatedPrompt, compared: list[Comparison], config: PreferConfig) -> tuple[str, str]:
    if not rated.annotations:
        return "unrated", "no image of this prompt was rated"
    if len(rated.images) == 1:
        return "alone", "one image was rated: there is no other to prefer it to"
    if all(one.difference is None for one in compared):
        return "not_comparable", "no two images have ratings in common"
    if all(not one.difference for one in compared):
        return "identical", f"all {len(rated.images)} images are rated alike"
    return "tie", f"no two images differ by more than {config.tie_band:g}"


def _preference(rated: RatedPrompt, one: Comparison) -> ImagePreference:
    assert one.difference is not None
    chosen, rejected = (one.one, one.other) if one.difference > 0 else (one.other, one.one)
    prompt, margin = rated.prompt, round(abs(one.difference), 9)
    identity = content_id("image preference", prompt.id, one.by, chosen, rejected)
    return ImagePreference(identity, prompt.id, prompt.text, one.by, chosen, rejected, margin, prompt.source)


def _difference(rated: RatedPrompt, aspect: str, one: str, other: str, weights: Mapping[str, float]) -> float | None:
    known = []
    for name in rated.annotators:
        ahead, behind = rated.mean(name, aspect, one), rated.mean(name, aspect, other)
        if ahead is not None and behind is not None:
            known.append((weights.get(name, 1.0), ahead - behind))
    return _mean(known)


def _overall(differences: Mapping[str, float | None], config: PreferConfig) -> float | None:
    weights: dict[str, float] = {**config.weights}
    known = [(weights.get(a, 0.0), d) for a, d in differences.items() if d is not None and weights.get(a, 0.0)]
    return _mean(known) if len(known) >= config.minimum_aspects else None


def _mean(weighed: list[tuple[float, float]]) -> float | None:
    total = sum(weight for weight, _ in weighed)
    return sum(weight * value for weight, value in weighed) / total if total else None
