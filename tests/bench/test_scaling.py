"""The simulation: one GPU needs the sum of the work, and what many lose is loading and waiting."""

import pytest
from prefmill.bench.scaling import STAGES, efficiency, simulate


def test_one_gpu_needs_the_sum_of_loading_and_work():
    seconds = sum(max(stage.load, stage.weights) + 1000 * stage.seconds for stage in STAGES)
    assert simulate(1000, 1, 1.0)["hours"] == pytest.approx(seconds / 3600)


def test_many_gpus_lose_to_loading_which_a_faster_store_or_local_weights_give_back():
    slow = efficiency(9000, 256, 1.0)
    fast, local = efficiency(9000, 256, 10.0), efficiency(9000, 256, 1.0, staged=True)
    assert slow < 0.2 < fast == pytest.approx(local)
    assert simulate(9000, 256, 1.0)["loading"] > 0.7
    assert efficiency(180_000, 8, 1.0) > 0.99


def test_a_slow_store_bounds_what_moves_images():
    bound = 180_000 * sum(stage.moved for stage in STAGES) / 0.01 / 3600
    assert simulate(180_000, 256, 0.01)["hours"] >= bound
