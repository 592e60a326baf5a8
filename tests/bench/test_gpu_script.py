"""`bench/gpu.sh` without a GPU: what it would run parses and ends in time, and it says what it lacks."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prefmill.bench import gpu_dry_run

ROOT = Path(__file__).parents[2]


def gpu(*arguments, python=sys.executable):
    environment = {**os.environ, "PYTHON": str(python), "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", ROOT / "bench" / "gpu.sh", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_dry_run_prints_parts_whose_commands_parse_and_whose_limits_fit(tmp_path, monkeypatch, capsys):
    """The script's process checks one of its parts; all are checked here, where the libraries are imported."""
    python = tmp_path / "python"
    checked = f'tee {tmp_path}/parts | grep "^kernel_tests" | exec {sys.executable} "$@"'
    python.write_text(f'#!/bin/bash\ncase "$*" in *gpu_dry_run) {checked} ;; *) exec {sys.executable} "$@" ;; esac\n')
    python.chmod(0o755)
    done = gpu("--dry-run", python=python)
    assert (done.returncode, done.stderr) == (0, "")
    parts = dict(re.findall(r"^(\w+) +\d+ s   python (-m .+)$", done.stdout, re.MULTILINE))
    assert list(parts) == [
        "kernel_tests", "kernels", "scorers", "train", "engines", "tensorrt", "sd3_medium", "responders", "pipeline",
    ]  # fmt: skip
    assert "--backends tensorrt,tensorrt_rtx" in parts["tensorrt"]
    assert "aoti" in parts["engines"]
    limits = [int(limit) for limit in re.findall(r"^\w+ +(\d+) s   python", done.stdout, re.MULTILINE)]
    together, most = map(int, re.findall(r"all limits together: (\d+) s, of (\d+) s", done.stdout)[0])
    assert sum(limits) < together < most == 540

    lines = (tmp_path / "parts").read_text()
    assert [line.split("|")[0] for line in lines.splitlines()] == list(parts)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert (gpu_dry_run.main(), *capsys.readouterr()) == (0, "", "")
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines.replace("--spec ", "--speck ")))
    assert gpu_dry_run.main() == 1
    assert "error: engines does not parse: unknown --speck" in capsys.readouterr().err


def test_without_a_gpu_it_says_so():
    done = gpu()
    assert done.returncode == 2
    assert "torch sees no GPU here" in done.stderr
    assert "bash bench/gpu.sh --dry-run" in done.stderr


def test_an_unknown_option_is_said():
    done = gpu("--dry")
    assert (done.returncode, "--dry is no option" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["bench", "engines", "--device", "cuda"], ""),
        (["bench", "engines", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["bench", "engines", "--speck", "clip"], "unknown --speck"),
        (["bench", "rockets"], "rockets"),
    ],
)
def test_what_does_not_parse_is_named(arguments, wrong):
    from prefmill.cli.main import main

    found = gpu_dry_run.problem(arguments, main)
    assert wrong in found
    assert bool(found) == bool(wrong)
