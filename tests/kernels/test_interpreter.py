"""Runs the interpreted kernels' tests. Triton reads TRITON_INTERPRET when it is imported, hence a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed here (Linux only)")
HERE = Path(__file__).parent


def test_interpreted():
    """In one process: what it imports takes as long as many a kernel."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    paths = sorted(HERE.glob("interpreted_*.py"))
    assert len(paths) == 5
    command = [sys.executable, "-m", "pytest", *paths, "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "skipped" not in result.stdout
