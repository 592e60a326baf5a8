"""HPDv2's test set: prompts with images that ten people ranked (arXiv 2306.09341; test.json of ymhao/HPDv2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...base.tables.formats import open_table
from .agreement import correct_pairs, decided_pairs, equal_pairs, share_not_inverted
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


def read_hpdv2(path: Path, images: Path | None) -> Rankings:
    """Read items of prompt, image_path and rank; an item's id is its number, from 1, where it states none.

    Raises PrefmillError, which names the item.
    """
    table = open_table(path, "DATA")
    items = []
    for row in table.scan():
        files = texts_of(row, "image_path")
        ranks = ranks_of(row, "rank", len(files))
        name = str(row.fields.get("id", row.number + 1))
        items.append(RankedImages(name, field_of(row, "prompt", str), files, ranks))
    return Rankings(checked(items, path), table.sha256, images_below(images))


def measure_hpdv2(items: Sequence[RankedImages], scores: Scores, _: object) -> dict[str, Ratio]:
    """The official accuracy, averaged over prompts, and the stricter one over the pairs that people decided."""
    pairs = [list(decided_pairs(item.ranks)) for item in items]
    counts = [len(decided) for decided in pairs]
    correct = [correct_pairs(decided, own) for decided, own in zip(pairs, scores, strict=True)]
    shares = [share_not_inverted(item.ranks, own) for item, own in zip(items, scores, strict=True)]
    return {
        "accuracy": Ratio(shares, [1.0] * len(items)),
        "accuracy of decided pairs": Ratio(correct, counts),
        "equal scores": Ratio([equal_pairs(*one) for one in zip(pairs, scores, strict=True)], counts),
    }


_README = "README of tgxs002/HPSv2"

BENCHMARK = RankingBenchmark(
    name="hpdv2",
    title="HPDv2's test set",
    rule=(
        "accuracy: 1 - inversions / all pairs of a prompt, averaged over prompts (inversion_score of tgxs002/HPSv2). A "
        "pair that people tie is never inverted, so it counts as right; of equal scores the earlier image goes first, "
        "where the official sort leaves it open. accuracy of decided pairs (ours): over the pairs of all prompts that "
        "people rank differently, equal scores wrong."
    ),
    version=1,
    headline="accuracy",
    recognises=lambda fields: {"image_path", "rank"} <= fields.keys(),
    read=read_hpdv2,
    measure=measure_hpdv2,
    published=(
        Published("HPSv2.1", 84.1, _README),
        Published("HPSv2", 83.3, _README),
        Published("PickScore", 79.8, _README),
        Published("a single person", 78.1, _README),
        Published("HPS", 77.6, _README),
        Published("Aesthetic", 76.8, _README),
        Published("ImageReward", 74.0, _README),
    ),
)
