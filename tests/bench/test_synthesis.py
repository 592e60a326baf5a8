"""The arithmetic of the synthesis benchmark: its claims from given seconds, agreement of given images."""

import math

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.synthesis import agreement, claims_of, run
from prefmill.bench.synthesis_paths import ScoredImages

EQUAL = {"same_picks": 1.0, "max_pixel": 0.0, "psnr_min": 99.0, "reward_drift": 0.0}


def rounds(*seconds):
    return [{"cpu": value, "wall": 2 * value} for value in seconds]


def measured(**seconds):
    sides = {"authors": rounds(8.0, 8.0, 9.0), "eager": rounds(4.0, 4.0, 6.0), **seconds}
    return {
        "timings": sides,
        "images": 64,
        "agreement": dict.fromkeys(sides, EQUAL),
        "built": {"quick": {"build_seconds": 3.0, "bytes": 10, "parity": 1e-6}},
        "left_out": {"absent": "it is not installed"},
    }


def test_the_quickest_backend_is_claimed():
    one = measured(quick=rounds(2.0, 1.0, 2.0), slow=rounds(8.0, 4.0, 12.0))
    all_threads = measured(quick=rounds(1.0, 1.0, 4.0), slow=rounds(8.0, 4.0, 12.0))
    claims = claims_of({1: one, 2: all_threads})
    assert claims["backend"] == "quick"
    assert claims["sd3_vs_eager"] == 3.0  # the median of 2, 4 and 3
    assert claims["path_vs_authors"] == 4.5  # of 4, 8 and 4.5
    assert claims["images_per_s"] == 32.0  # 64 images in 2 wall seconds
    assert claims["parity_max_relative_error"] == 1e-6
    assert claims["sides"]["quick"]["vs_eager_wall_all_threads"] == 4.0  # of 4, 4 and 1.5
    assert claims["sides"]["slow"]["vs_eager"] == 0.5  # of 0.5, 1 and 0.5
    assert claims["left_out"] == {"absent": "it is not installed"}


def test_eager_stands_where_nothing_compiled():
    claims = claims_of({1: measured()})
    assert (claims["backend"], claims["sd3_vs_eager"], claims["path_vs_authors"]) == ("eager", 1.0, 2.0)


def test_agreement_of_one_pixel_and_one_swap():
    wanted = ScoredImages(np.zeros((2, 2, 4, 4, 3), np.uint8), np.array([[1.0, 2.0], [1.0, 2.0]]))
    images = wanted.images.copy()
    images[0, 1, 2, 3, 0] = 12
    found = agreement(ScoredImages(images, np.array([[1.0, 2.0], [1.0, 0.5]])), wanted)
    error = 12**2 / (4 * 4 * 3)
    assert found == {
        "same_picks": 0.5, "max_pixel": 12.0, "reward_drift": 1.5,
        "psnr_min": pytest.approx(10 * math.log10(255**2 / error), abs=0.01),
    }  # fmt: skip
    assert agreement(wanted, wanted) == EQUAL


def test_an_unknown_backend_is_said():
    with pytest.raises(PrefmillError, match="no backend 'rockets'"):
        run(backends=["rockets"])
