"""ImageReward's test set: 466 prompts whose images people ranked (arXiv 2304.05977; data/test.json of its repository).

The official script prints the accuracy alone. `recall@k` and `filter@k` of the paper's Table 3 come from another test
set, which its authors say is lost (issue 78), by a script that was never released: here they are ours, on the prompts
that have more than k images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...base.tables.formats import open_table
from .agreement import best_is_among, correct_pairs, decided_pairs, equal_pairs
from .measures import Ratio
from .rankings import (
    Published,
    RankedImages,
    RankingBenchmark,
    Rankings,
    Scores,
    checked,
    field_of,
    images_below,
    ranks_of,
    texts_of,
)

_AMONG = (1, 2, 4)


def read_imagereward(path: Path, images: Path | None) -> Rankings:
    """Read items of id, prompt, generations and ranking. Raises PrefmillError, which names the item."""
    table = open_table(path, "DATA")
    items = []
    for row in table.scan():
        files = texts_of(row, "generations")
        ranks = ranks_of(row, "ranking", len(files))
        items.append(RankedImages(str(field_of(row, "id", (str, int))), field_of(row, "prompt", str), files, ranks))
    return Rankings(checked(items, path), table.sha256, images_below(images))


def measure_imagereward(items: Sequence[RankedImages], scores: Scores, _: object) -> dict[str, Ratio]:
    """The official accuracy over pairs, the same averaged over prompts (HPSv2's script), and ours."""
    pairs = [list(decided_pairs(item.ranks)) for item in items]
    counts = [len(decided) for decided in pairs]
    correct = [correct_pairs(decided, own) for decided, own in zip(pairs, scores, strict=True)]
    some = [float(count > 0) for count in counts]
    found = {
        "accuracy": Ratio(correct, counts),
        "accuracy by prompt": Ratio(
            [right / max(count, 1) for right, count in zip(correct, counts, strict=True)], some
        ),
        "equal scores": Ratio([equal_pairs(*one) for one in zip(pairs, scores, strict=True)], counts),
    }
    for k in _AMONG:
        more = [float(len(item.images) > k) for item in items]
        kept = list(zip(items, scores, more, strict=True))
        recalled = [has * best_is_among(item.ranks, own, k) for item, own, has in kept]
        filtered = [
            has * best_is_among([-rank for rank in item.ranks], [-score for score in own], k) for item, own, has in kept
        ]
        found |= {f"recall@{k}": Ratio(recalled, more), f"filter@{k}": Ratio(filtered, more)}
    return found


_TABLE = "Table 3 of arXiv 2304.05977"
_README = "README of tgxs002/HPSv2, averaged over prompts"

BENCHMARK = RankingBenchmark(
    name="imagereward",
    title="ImageReward's test set",
    rule=(
        "accuracy: of all pairs that people rank differently, over all prompts together, the share whose better image "
        "scores higher; equal scores count as wrong (test.py of THUDM/ImageReward). accuracy by prompt: the same, "
        "averaged over prompts (HPSv2's script). recall@k, filter@k (ours): on prompts with more than k images, "
        "whether an image that people rank best (worst) is among the k highest (lowest) scores; equals do not help."
    ),
    version=1,
    headline="accuracy",
    recognises=lambda fields: {"generations", "ranking"} <= fields.keys(),
    read=read_imagereward,
    measure=measure_imagereward,
    published=(
        Published("ImageReward", 65.14, _TABLE),
        Published("BLIP", 57.76, _TABLE),
        Published("Aesthetic", 57.35, _TABLE),
        Published("CLIP", 54.82, _TABLE),
        Published("HPSv2.1", 66.8, _README),
        Published("HPSv2", 65.7, _README),
        Published("a single person", 65.3, _README),
        Published("PickScore", 62.9, _README),
        Published("HPS", 61.2, _README),
    ),
    official_sha256="77cff6c2d0522006f52f0b637ef8302db1782b2b761e378c124a012a3c7fc58e",
)
