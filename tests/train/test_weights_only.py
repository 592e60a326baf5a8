"""A pickle that somebody planted is read without being run, whatever its reader asks for."""

import os

import pytest
import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from prefmill.base.errors import PrefmillError
from prefmill.train.weights_only import weights_only


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_planted_call_is_not_made(tmp_path, monkeypatch, planted, zipped):
    """DeepSpeed's own reader, which asks for `weights_only=False`; also where the user's shell asks for it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    file, mark = tmp_path / "states.pt", tmp_path / "it-ran"
    torch.save({"module": torch.zeros(2), "scale": planted(mark)}, file, _use_new_zipfile_serialization=zipped)
    with (
        pytest.raises(PrefmillError, match=r"more than weights and numbers \(posix\.mkdir\)") as caught,
        weights_only(tmp_path, deepspeed=True),
    ):
        TorchCheckpointEngine().load(str(file), map_location="cpu")
    assert not mark.exists()
    assert caught.value.fix.startswith(f"delete {tmp_path} and give the same command again")
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ

    torch.load(file, weights_only=False)
    assert mark.exists(), "the planted call must act where nothing forbids it"
