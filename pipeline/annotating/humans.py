"""How far annotators agree with people: pairs of images, of which people named the better one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...base.errors import PrefmillError
from ...base.tables.formats import open_table
from ..declaration import StageDeclaration
from ..store import Run
from .aggregation import comparisons
from .presentations import Numbers, rounded, share
from .ratings import RatedPrompt
from .settings import OVERALL, PreferConfig


@dataclass(frozen=True)
class HumanPairs:
    """The better and the worse image of each pair by their ids, by what was asked about; what could not be used."""

    pairs: dict[tuple[str, str], str]
    unused: Counter[str]


def read_human_pairs(path: str, run: Run, images: StageDeclaration) -> HumanPairs:
    """Read a table with the columns chosen, rejected and optionally aspect (by default overall).

    Images are named by their ids, or as in the table that they were imported from. Raises PrefmillError where no row
    can be used.
    """
    names: dict[str, str] = {}
    for folder in filter(images.owns, run.stages()):
        dataset = run.dataset(folder, images.output)
        ids = dataset.column("id")
        names |= {source: i for source, i in zip(dataset.column("source"), ids, strict=True) if source}
        names |= zip(ids, ids, strict=True)
    pairs: dict[tuple[str, str], str] = {}
    unused: Counter[str] = Counter()
    for row in open_table(path, "--humans", rows="pairs").scan():
        chosen, rejected = (names.get(str(row.fields.get(key))) for key in ("chosen", "rejected"))
        aspect = row.fields.get("aspect") or OVERALL
        if row.fault or not {"chosen", "rejected"} <= row.fields.keys():
            unused["unreadable"] += 1
        elif chosen is None or rejected is None or chosen == rejected:
            unused["unknown_image"] += 1
        elif {(chosen, rejected), (rejected, chosen)} & pairs.keys():
            unused["repeated"] += 1
        else:
            pairs[chosen, rejected] = str(aspect)
    if not pairs:
        told = ", ".join(f"{count} {reason}" for reason, count in unused.items())
        raise PrefmillError(
            f"{path} has no pair of images of this run ({told})", "give the columns chosen and rejected: ids of images"
        )
    return HumanPairs(pairs, unused)


def human_agreement(ratings: Iterable[RatedPrompt], humans: HumanPairs, config: PreferConfig) -> dict[str, Numbers]:
    """Return, for overall and each aspect, how often the ratings prefer what people prefer, ties counting one half.

    A pair that people compared by one aspect counts for that one, any other for all.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for rated in ratings:
        for one in comparisons(rated, config):
            ahead = humans.pairs.get((one.one, one.other))
            asked = ahead or humans.pairs.get((one.other, one.one))
            if asked is None or asked not in (OVERALL, one.by) or one.difference is None:
                continue
            tied = one.is_tie(config.tie_band)
            agreed = not tied and (one.difference > 0) == (ahead is not None)
            counts[one.by].update(pairs=1, tied=tied, agreed=agreed)
    return {by: _numbers(counts[by]) for by in config.by if counts[by]["pairs"]}


def _numbers(counts: Counter[str]) -> dict[str, Any]:
    pairs, decided = counts["pairs"], counts["pairs"] - counts["tied"]
    return {
        "pairs": pairs,
        "tie_share": rounded(share(counts["tied"], pairs)),
        "agreement": rounded(share(counts["agreed"] + counts["tied"] / 2, pairs)),
        "agreement_without_ties": rounded(share(counts["agreed"], decided)),
    }
