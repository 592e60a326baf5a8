"""Shared fixtures: random checkpoints in a folder of the test session, and the sample data where it is present."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two shared cores: one thread per process is the fastest
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """`random:` checkpoints are built once per session, not into the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["PREFMILL_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def shared():
    """The folder of real sample data and golden values."""
    if not SHARED.is_dir():
        pytest.skip("the shared sample data is not here")
    return SHARED
