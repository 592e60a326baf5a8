"""The study of aspects on made-up scores, counted by hand."""

import numpy as np
import pytest
from prefmill.bench.studies.aspects import ALL, TRAINED, RatedImages, aspects_study, pair_accuracy
from prefmill.engine.responders.image_ratings import ASPECTS


def test_pairs_in_the_right_order_are_counted_by_prompt():
    ratings = np.array([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0], [1.0, 2.0, 5.0]])
    scores = np.array([[0.5, 0.4, 0.4], [1.0, 2.0, 3.0], [0.0, 0.3, 0.2]])
    # 0 before 1 is right, 2 equal to 1 is wrong, 0 and 2 are rated the same; no pair; 2 before 1 is wrong
    assert pair_accuracy(scores, ratings) == pytest.approx([0.5, np.nan, 2 / 3], nan_ok=True)


def test_the_table_compares_every_scorer_with_the_one_of_all_aspects():
    random = np.random.default_rng(0)
    ratings = {name: random.integers(1, 6, (40, 4)).astype(float) for name in ASPECTS}
    ratings["overall"] = np.mean([ratings[name] for name in ASPECTS], axis=0)
    rated = RatedImages(["a"] * 40, np.zeros((40, 4, 2, 2, 3), np.uint8), ratings)
    scores = {name: ratings["overall" if name == ALL else name] for name in TRAINED}
    scores |= {name: random.normal(size=(40, 4)) for name in ("image-reward", "clip", "blip-matching")}
    study = aspects_study([rated, rated], [scores, scores])
    rows = {row["scorer"]: row for row in study.rows}
    assert rows[ALL]["share"] == 1.0
    assert rows[ALL]["all_minus_this"] == 0.0
    own = pair_accuracy(scores["clip"], ratings["overall"])
    assert rows["clip"]["share"] == pytest.approx(own.mean(), abs=1e-4)
    assert rows["clip"]["all_minus_this"] == pytest.approx(1 - own.mean(), abs=1e-4)
    assert all(rows[name][name] == 1.0 for name in ASPECTS)
    assert rows["clip"]["all_minus_low"] > 0
    best = max(ASPECTS, key=lambda name: rows[name]["share"])
    assert f"({best}) by {1 - rows[best]['share']:.3f}"[:-2] in study.sentence
