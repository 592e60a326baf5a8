"""The scorer benchmark: its arithmetic, the peer that does not answer, and the dry run of the GPU rows."""

import json
import sys
from pathlib import Path

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.bench import scorers, scorers_device
from prefmill.bench.kernel_timing import operations


def timings(seconds, scores):
    return [{"cpu": value, "wall": 2 * value, "scores": scores} for value in seconds]


def test_ratios_are_medians_over_rounds_of_cpu_seconds():
    raw = {"slow": timings([4.0, 9.0, 6.0], [1.0, 2.0, 3.0]), "quick": timings([2.0, 1.0, 3.0], [1.0, 2.5, 2.0])}
    assert scorers._ratio(raw, "slow", "quick") == 2.0
    assert scorers._ratio(raw, "absent", "quick") is None
    assert scorers._difference(raw, "slow", "quick") == 1.0
    assert scorers._rank_agreement(raw["slow"], raw["quick"]) == 0.5
    assert scorers._rank_agreement(raw["slow"], raw["slow"]) == 1.0


def test_equal_scores_share_a_rank():
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    tied = scorers._rank_agreement(timings([1.0], [0.1, 0.7, 0.7, 0.9]), timings([1.0], [1.0, 2.0, 3.0, 4.0]))
    assert tied == pytest.approx(0.9487, abs=1e-4)
    # the order in which equal scores stand must not matter
    assert tied == scorers._rank_agreement(timings([1.0], [0.1, 0.7, 0.7, 0.9]), timings([1.0], [1.0, 3.0, 2.0, 4.0]))


def test_the_limit_does_as_many_operations_as_the_model():
    wanted = 10 * 2 * 197 * 1024 * 4096
    assert operations(lambda: scorers._multiply(wanted, batch=1)) == wanted


def test_a_python_without_the_peer_is_named_with_the_script_that_makes_one(tmp_path):
    for python in (tmp_path / "absent", Path(sys.executable)):
        with (
            pytest.raises(PrefmillError, match="does not run image-reward") as error,
            scorers._peer(python, tmp_path, 1),
        ):
            pass
        assert "scorers_peer_environment.sh" in error.value.fix


def test_dry_run_fills_every_gpu_claim(tmp_path, capsys, monkeypatch, cache):
    to = tmp_path / "scorers.json"
    monkeypatch.setattr(sys, "argv", ["scorers", "--device", "cuda", "--dry-run", "--rounds", "1", "--to", str(to)])
    scorers.main()
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert claims["dry_run"] is True
    assert "gpu" not in claims
    wanted = {"imagereward_images_per_second", "imagereward_of_matmul_rate", "armorm_answers_per_second"}
    assert {*wanted, "armorm_vs_single", "armorm_long_prompt_vs_single"} <= claims.keys()
    assert all(value > 0 for value in claims.values())
    written = json.loads(to.read_text())
    assert written["claims"] == claims
    assert len(written["seconds"]["armorm_single"]) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu_is_said():
    with pytest.raises(PrefmillError, match="no GPU"):
        scorers_device.run()
