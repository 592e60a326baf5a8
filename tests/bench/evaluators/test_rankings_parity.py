"""The official numbers on recorded scores, as the reference scripts' own functions compute them.

Made once, with torch 2.13.0, from the functions as they are in the repositories: `acc` of THUDM/ImageReward's test.py
(c1392c6), `inversion_score` and `calc_ImageReward` of tgxs002/HPSv2's train.py (866735e) in the batches of 20 that its
evaluation.py takes, `calc_acc` of yuvalkirstain/PickScore's eval_preference_predictor.py (f79607f) on the softmax of
the two scores. The scores are those of `recorded` and `picked` below.
"""

import json
import random

import pytest
from prefmill.bench.evaluators.measures import Ratio
from prefmill.bench.evaluators.rankings import RankedImages
from prefmill.bench.evaluators.rankings_catalogue import benchmark_of
from prefmill.bench.evaluators.rankings_hpdv2 import measure_hpdv2, read_hpdv2
from prefmill.bench.evaluators.rankings_imagereward import BENCHMARK, measure_imagereward, read_imagereward
from prefmill.bench.evaluators.rankings_pick_a_pic import choose_threshold, measure_pick_a_pic


@pytest.fixture(scope="module")
def official(shared):
    path = shared / "data" / "imagereward-test.json"
    if not path.is_file():
        pytest.skip("ImageReward's test.json is not here")
    return path


def recorded(items, noise, seed):
    """Scores of the test set's images, to one digit, so that some are equal."""
    stream = random.Random(seed)
    return [[round(-0.5 * rank + stream.gauss(0, noise), 1) for rank in item.ranks] for item in items]


def unequal(scores, seed):
    stream = random.Random(seed + 10)
    return [[score + stream.random() * 1e-3 for score in row] for row in scores]


def picked(seed, count):
    """Pairs with labels and scores, to one digit."""
    stream = random.Random(seed)
    items, scores = [], []
    for number in range(count):
        label = stream.choice((0.0, 0.5, 1.0))
        shift = {0.0: -0.8, 0.5: 0.0, 1.0: 0.8}[label]
        ranks = {0.0: (2.0, 1.0), 0.5: (1.0, 1.0), 1.0: (1.0, 2.0)}[label]
        items.append(RankedImages(str(number), "", ("a", "b"), ranks))
        scores.append((round(20 + stream.gauss(0, 0.6) + shift, 1), round(20 + stream.gauss(0, 0.6), 1)))
    return items, scores


@pytest.mark.parametrize(
    ("noise", "seed", "accuracy", "by_prompt"),
    [(2.0, 1, 0.6230661040787623, 0.6233238972582772), (6.0, 2, 0.5433661509610876, 0.5380318714208764)],
)
def test_imagereward(official, noise, seed, accuracy, by_prompt):
    data = read_imagereward(official, None)
    assert data.sha256 == BENCHMARK.official_sha256
    found = measure_imagereward(data.items, recorded(data.items, noise, seed), {})
    assert found["accuracy"].value == accuracy
    assert sum(found["accuracy"].under) == 6399
    assert found["accuracy by prompt"].value == pytest.approx(by_prompt, abs=1e-15)
    assert len(found["accuracy by prompt"].over) == 466


@pytest.mark.parametrize(
    ("noise", "seed", "equal", "unequal_scores"),
    [(2.0, 1, 0.6713417126507255, 0.669136180938756), (6.0, 2, 0.5873731180598134, 0.5854179440016348)],
)
def test_hpdv2(official, tmp_path, noise, seed, equal, unequal_scores):
    """On the same rankings, spelled as HPDv2 does. The last bit of the official sum depends on its batches."""
    items = [
        {"prompt": item["prompt"], "image_path": item["generations"], "rank": item["ranking"], "raw_annotations": []}
        for item in json.loads(official.read_text(encoding="utf-8"))
    ]
    (tmp_path / "test.json").write_text(json.dumps(items))
    assert benchmark_of(tmp_path / "test.json").name == "hpdv2"
    data = read_hpdv2(tmp_path / "test.json", None)
    assert [data.items[0].id, data.items[-1].id] == ["1", "466"]
    scores = recorded(data.items, noise, seed)
    assert measure_hpdv2(data.items, scores, {})["accuracy"].value == pytest.approx(equal, abs=1e-15)
    found = measure_hpdv2(data.items, unequal(scores, seed), {})["accuracy"].value
    assert found == pytest.approx(unequal_scores, abs=1e-15)


def test_pick_a_pic():
    official = [0.73, 0.763, 0.762, 0.767, 0.767, 0.752, 0.733, 0.715, 0.696, 0.681, 0.68]
    validation, own = picked(3, 500)
    found = [measure_pick_a_pic(validation, own, {"threshold": step / 10}) for step in range(11)]
    assert [measures["accuracy with ties"].value for measures in found] == official
    chosen = choose_threshold(validation, own)
    assert chosen == {"threshold": 0.3}
    test, scores = picked(4, 500)
    assert measure_pick_a_pic(test, scores, chosen)["accuracy with ties"].value == 0.778
    assert measure_pick_a_pic(test, scores, {})["accuracy with ties"].value == 0.743


def test_every_value_is_a_share(official):
    data = read_imagereward(official, None)
    perfect = [[-rank for rank in item.ranks] for item in data.items]
    found = measure_imagereward(data.items, perfect, {})
    assert {name: ratio.value for name, ratio in found.items() if name != "equal scores" and "@" not in name} == {
        "accuracy": 1.0,
        "accuracy by prompt": 1.0,
    }
    worst = measure_imagereward(data.items, [[1.0] * len(item.images) for item in data.items], {})
    assert worst["accuracy"].value == worst["recall@1"].value == 0.0
    assert worst["equal scores"].value == 1.0
    assert isinstance(found["recall@4"], Ratio)
    assert sum(found["recall@4"].under) == 466 - 194
