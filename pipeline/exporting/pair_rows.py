"""A run's pairs one at a time, each with its image and where both come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ...base.errors import PrefmillError
from ..candidate_folders import CandidateLookup
from ..records import Candidate, Pair
from ..store import Run
from .lineage import Lineage

# Loaders count these and put an image, a film or a sound where they stand; in a text they are only spelled out.
_PLACEHOLDER = re.compile(r"<(image|video|audio)>")


@dataclass(frozen=True)
class PairRow:
    """A pair with its image. `about` has the values of `PAIR_COLUMNS`."""

    pair: Pair
    image: Candidate
    about: dict[str, Any]

    @property
    def id(self) -> str:
        """The name that the pair was imported under, or its own id."""
        return self.pair.source or self.pair.id

    @property
    def split(self) -> str:
        """The side of the split."""
        return self.about["split"]


def pair_rows(run: Run, lineage: Lineage) -> Iterator[PairRow]:
    """Yield a run's pairs in their order. A placeholder that a text spells out loses its brackets.

    Raises PrefmillError where there are none, and where an image is missing.
    """
    pairs, candidates = run.dataset("pairs", Pair), CandidateLookup(run)
    if not len(pairs):
        rejects = ", ".join(f"{count} {reason}" for reason, count in pairs.reject_counts().items())
        raise PrefmillError(
            f"{run.folder} holds no pairs{f' (rejected: {rejects})' if rejects else ''}",
            f"make some with `prefmill run`, or import some with `prefmill import --pairs`; then export {run.folder}",
        )
    image: Candidate | None = None
    for pair in pairs:
        if image is None or image.id != pair.image_id:
            if pair.image_id not in candidates:
                raise PrefmillError(
                    f"pair {pair.id} is about image {pair.image_id}, which {run.folder} does not hold",
                    "give `prefmill run` for this run again: it makes missing rows",
                )
            image = candidates[pair.image_id]
        texts = {name: _PLACEHOLDER.sub(r"\1", getattr(pair, name)) for name in ("instruction", "chosen", "rejected")}
        yield PairRow(replace(pair, **texts), image, lineage.of_pair(pair, image))


def turns(question: str, answer: str) -> list[dict[str, str]]:
    """Return a question and its answer as LLaVA and ShareGPT write them."""
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def messages(question: str, answer: str) -> list[dict[str, str]]:
    """Return a question and its answer as OpenAI writes them."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
