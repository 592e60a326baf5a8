"""SD3 on a device, tried at a tiny size on a CPU: our loop draws the library's images."""

import json

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.bench import sd3_device


def test_our_loop_draws_what_the_library_draws(tmp_path):
    claims = sd3_device.run(tiny=True, images=2, steps=2, rounds=1, backends=["eager"], to=tmp_path / "sd3.json")
    assert claims["finite"]
    assert claims["eager_mean_difference"] < 1e-5
    assert claims["tflop_per_image"] > 0
    written = json.loads((tmp_path / "sd3.json").read_text())
    assert len(written["seconds"]["eager"]) == len(written["seconds"]["diffusers"]) == 1


def test_claims_are_rates_and_ratios():
    images = torch.zeros(2, 3, 4, 4)
    raw = {
        "diffusers": [{"wall": value, "result": images} for value in (4.0, 8.0, 6.0)],
        "eager": [{"wall": value, "result": images + 0.25} for value in (2.0, 2.0, 2.0)],
    }
    claims = sd3_device.claims_of(raw, 2, int(3e12), 12e12)
    assert claims["diffusers_images_per_s"] == 0.3333
    assert claims["eager_images_per_s"] == 1.0
    assert claims["eager_of_matmul_rate"] == 0.25
    assert claims["eager_vs_diffusers"] == 3.0
    assert claims["eager_mean_difference"] == 0.25


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(PrefmillError, match="no GPU"):
        sd3_device.run()
