"""Where DeepSpeed's compiled extension lies."""

import sys
from pathlib import Path

from prefmill.train.zero2 import extensions_folder, is_extension_built


def test_every_environment_has_an_extension_of_its_own(monkeypatch, tmp_path):
    """One that is found was compiled with the headers of its environment, and another one compiles it anew."""
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = extensions_folder()
    assert own == extensions_folder()
    assert tmp_path in own.parents
    built = own / "deepspeed_shm_comm" / "deepspeed_shm_comm.so"
    built.parent.mkdir(parents=True)
    built.touch()
    assert is_extension_built()
    monkeypatch.setattr(sys, "prefix", "/another/environment")
    assert extensions_folder() != own
    assert not is_extension_built()


def test_a_folder_that_is_given_is_taken_as_it_is(monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/given")
    assert extensions_folder() == Path("/given")
