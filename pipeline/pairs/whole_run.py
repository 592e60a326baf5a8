"""What is decided over all pairs of a run: repeated pairs, pairs of one prompt, pairs of one topic.

Pure and independent of how a run was cut into batches or continued: the same pairs in the same order give the same
verdicts. They apply in this order, each to what the one before left:

    repeated      an earlier pair of the run has the same (or nearly the same) two texts
    prompt_full   the prompt has enough pairs; those with the widest margins stay
    topic_full    the topic has too many for balance; which stay depends on their ids alone
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from ...base.settings import Settings
from ..records import content_id, seed_for
from ..writing.near_duplicates import NearDuplicates


class RunLimits(Settings):
    """The limits that need the whole set; none of them holds by default."""

    unique: Literal["no", "same", "near"] = Field(
        default="no", description="refuse a pair whose texts an earlier pair of the run has, or nearly has"
    )
    pairs_per_prompt: int | None = Field(default=None, ge=1, description="most pairs of one text-to-image prompt")
    topic_ratio: float | None = Field(
        default=None, ge=1, description="most pairs of a topic, as a multiple of those of the rarest topic"
    )

    @property
    def needs_whole_run(self) -> bool:
        """Whether a pair can be refused for what other instructions' pairs are."""
        return self.unique != "no" or self.pairs_per_prompt is not None or self.topic_ratio is not None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A pair as far as these verdicts go. `prompt`: what its image was drawn for, or the image's id."""

    pair: str
    prompt: str
    topic: str | None
    margin: float | None


Verdicts = dict[str, tuple[str, str]]
"""Reason and detail of every refused pair, by its id."""


class Repeats:
    """Takes pairs in order and says which of them repeat an earlier one. `near`: the likeness from which one does."""

    def __init__(self, limits: RunLimits, near: float) -> None:
        self._is_on = limits.unique != "no"
        self._near = NearDuplicates(near) if limits.unique == "near" else None
        self._seen: dict[str, str] = {}

    def verdict(self, pair: str, chosen: str, rejected: str) -> tuple[str, str] | None:
        """Return why a pair is refused, or None; one that is not is remembered."""
        if not self._is_on:
            return None
        texts = [" ".join(text.split()).lower() for text in (chosen, rejected)]
        name = content_id("texts", *texts)
        if earlier := self._seen.get(name):
            return "repeated", f"the texts of {earlier}"
        if self._near and (found := self._near.repeats(pair, " ".join(texts))):
            return "repeated", f"{found[1]:.0%} like {found[0]}"
        self._seen[name] = pair
        return None


def refused(proposals: Sequence[Proposal], limits: RunLimits) -> Verdicts:
    """Return which of the pairs that repeat nothing are too many for their prompt or their topic."""
    verdicts: Verdicts = {}
    if limits.pairs_per_prompt is not None:
        detail = f"more than {limits.pairs_per_prompt} pairs of its prompt"
        grouped = _grouped(proposals, lambda proposal: proposal.prompt)
        for group in grouped.values():
            ranked = sorted(group, key=lambda proposal: -(proposal.margin or 0.0))
            verdicts |= {proposal.pair: ("prompt_full", detail) for proposal in ranked[limits.pairs_per_prompt :]}
    if limits.topic_ratio is not None:
        left = [proposal for proposal in proposals if proposal.pair not in verdicts and proposal.topic is not None]
        counts = Counter(proposal.topic for proposal in left)
        most = int(min(counts.values(), default=0) * limits.topic_ratio)
        for topic, group in _grouped(left, lambda proposal: proposal.topic).items():
            # without the number: a verdict that stays is the same verdict when the run has grown
            detail = f"{topic} has over {limits.topic_ratio:g} times the pairs of the rarest topic"
            drawn = sorted(group, key=lambda proposal: seed_for(proposal.pair, "topic"))
            verdicts |= {proposal.pair: ("topic_full", detail) for proposal in drawn[most:]}
    return verdicts


def _grouped(proposals: Iterable[Proposal], key: Callable[[Proposal], str | None]) -> dict[str | None, list[Proposal]]:
    groups: defaultdict[str | None, list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        groups[key(proposal)].append(proposal)
    return groups
