"""Pick-a-Pic: of two images of a prompt, the one that the person who wrote the prompt picked, or a tie.

The rows are those of yuvalkirstain/pickapic_v1 and _v2 (arXiv 2305.01569): caption, label_0 and label_1 (1 picked, 0.5
a tie) or best_image_uid, and the images themselves (jpg_0, jpg_1) or their files (image_0, image_1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.tables.formats import open_table
from ...base.tables.table import Row, Table
from .agreement import THRESHOLDS, correct_pairs, decided_pairs, equal_pairs, tie_aware_choice
from .measures import Ratio
from .rankings import Published, RankedImages, RankingBenchmark, Rankings, Scores, checked, field_of, images_below

_EMBEDDED = ("jpg_0", "jpg_1")


def read_pick_a_pic(path: Path, images: Path | None) -> Rankings:
    """Read pairs; rows that say they have no label are left out. Raises PrefmillError, which names the row."""
    table = open_table(path, "DATA")
    items: list[RankedImages] = []
    numbers: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    for row in table.scan():
        prompt = field_of(row, "caption", str)
        if row.fields.get("has_label") in (False, 0):
            left_out["no label"] += 1
            continue
        name = _name(row)
        items.append(RankedImages(name, prompt, _files(row, table), _ranks(row)))
        numbers[name] = row.number
    below = images_below(images)

    def read(item: RankedImages) -> list[bytes]:
        if not table.embeds:
            return below(item)
        fields = table.rows(numbers[item.id], numbers[item.id] + 1)[0].fields
        return [_bytes(fields.get(name), item) for name in _EMBEDDED]

    return Rankings(checked(items, path), table.sha256, read, dict(left_out))


def choose_threshold(items: Sequence[RankedImages], scores: Scores) -> dict[str, float]:
    """Return the first of the official thresholds that does best on validation items."""
    earned = [
        sum(tie_aware_choice(item.ranks, own, one) for item, own in zip(items, scores, strict=True))
        for one in THRESHOLDS
    ]
    return {"threshold": THRESHOLDS[earned.index(max(earned))]}


def measure_pick_a_pic(items: Sequence[RankedImages], scores: Scores, chosen: Any) -> dict[str, Ratio]:
    """Return the official accuracy with ties, at the threshold chosen before or 0, and the one without ties."""
    threshold = chosen.get("threshold", 0.0)
    pairs = [list(decided_pairs(item.ranks)) for item in items]
    counts = [len(decided) for decided in pairs]
    earned = [tie_aware_choice(item.ranks, own, threshold) for item, own in zip(items, scores, strict=True)]
    return {
        "accuracy with ties": Ratio(earned, [1.0] * len(items)),
        "accuracy without ties": Ratio([correct_pairs(*one) for one in zip(pairs, scores, strict=True)], counts),
        "equal scores": Ratio([equal_pairs(*one) for one in zip(pairs, scores, strict=True)], counts),
    }


def _name(row: Row) -> str:
    """A row's own id; else that of its ranking with its images', since a ranking of several images is several rows."""
    given = [row.fields.get(name) for name in ("ranking_id", "image_0_uid", "image_1_uid")]
    own = row.fields.get("id", "/".join(str(value) for value in given if value is not None))
    return str(own or row.number + 1)


def _ranks(row: Row) -> tuple[float, float]:
    first, second, best = (row.fields.get(name) for name in ("label_0", "label_1", "best_image_uid"))
    if first is None and best is not None:
        uids = [row.fields.get(name) for name in ("image_0_uid", "image_1_uid")]
        if best != "tie" and best not in uids:
            raise PrefmillError(f"{row.place}: best_image_uid {best!r} is neither image's.", "correct this item")
        first = 0.5 if best == "tie" else float(best == uids[0])
    if first not in (0, 0.5, 1) or (second is not None and second != 1 - first):
        raise PrefmillError(
            f"{row.place}: the labels are {first!r} and {second!r}.", "give 1 and 0, 0 and 1, or 0.5 twice for a tie"
        )
    return (1.0, 1.0) if first == 0.5 else (1.0, 2.0) if first == 1 else (2.0, 1.0)


def _files(row: Row, table: Table) -> tuple[str, str]:
    if table.embeds:  # what the images are called in messages and in records of scores
        return str(row.fields.get("image_0_uid", "jpg_0")), str(row.fields.get("image_1_uid", "jpg_1"))
    return field_of(row, "image_0", str), field_of(row, "image_1", str)


def _bytes(value: Any, item: RankedImages) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise PrefmillError(f"item {item.id} holds no image.", "give the files' folder with --images")
    return content


_CARD = "data card of yuvalkirstain/pickapic_v1"

BENCHMARK = RankingBenchmark(
    name="pick-a-pic",
    title="Pick-a-Pic",
    rule=(
        "accuracy with ties: a choice earns 1 if it is people's, 0.5 if one side alone calls a tie, else 0; a tie is "
        "predicted where the softmax of the two scores differs by no more than a threshold, the first of 0, 0.1 .. 1 "
        "that does best on the validation file, 0 without one (eval_preference_predictor.py of "
        "yuvalkirstain/PickScore). "
        "accuracy without ties: over the rows that people decided, equal scores wrong."
    ),
    version=1,
    headline="accuracy with ties",
    recognises=lambda fields: "caption" in fields and bool({"label_0", "best_image_uid"} & fields.keys()),
    read=read_pick_a_pic,
    measure=measure_pick_a_pic,
    choose=choose_threshold,
    published=(
        Published("PickScore", 70.2, _CARD),
        Published("human experts", 68.0, _CARD),
        Published("HPS", 66.7, _CARD),
        Published("ImageReward", 61.1, _CARD),
        Published("CLIP-H", 60.8, _CARD),
        Published("Aesthetic", 56.8, _CARD),
    ),
)
