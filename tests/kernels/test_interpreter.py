"""Runs the interpreted kernels' tests. Triton reads TRITON_INTERPRET when it is imported, hence the processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed here (Linux only)")
HERE = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(HERE.glob("interpreted_*.py")), ids=lambda path: path.stem)
def test_interpreted(path):
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", str(path), "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "skipped" not in result.stdout
