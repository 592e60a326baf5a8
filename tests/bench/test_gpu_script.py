"""`bench/gpu.sh` without a GPU: what it would run parses and ends in time, and it says what it lacks."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from prefmill.bench.gpu_dry_run import problem, problems, unsettable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(tmp_path):
    """Run the script under a Python that keeps what it is piped, finds our package, and sees no GPU."""
    python, piped = tmp_path / "python", tmp_path / "piped"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in\n *prefmill.base.errors*) ;;\n *gpu_dry_run*) cat >{piped} ;;\n *) exit 1 ;;\nesac\n'
    )
    python.chmod(0o755)

    def run(*arguments):
        environment = {**os.environ, "PYTHON": str(python)}
        command = ["bash", ROOT / "bench" / "gpu.sh", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done, piped.read_text().splitlines() if piped.exists() else []

    return run


def test_a_dry_run_has_parts_whose_commands_parse_and_whose_limits_fit(gpu, monkeypatch):
    from prefmill.cli.main import main

    done, piped = gpu("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    parts = dict(re.findall(r"^(\w+) +\d+ s   python (-m .+)$", done.stdout, re.MULTILINE))
    assert list(parts) == [
        "kernel_tests", "kernels", "scorers", "train", "engines", "tensorrt", "sd3_medium", "responders", "vllm",
        "pipeline", "preferences", "reward_training", "ppo", "refl",
    ]  # fmt: skip
    assert "--backends tensorrt,tensorrt_rtx" in parts["tensorrt"]
    assert "aoti" in parts["engines"]
    limits = [int(limit) for limit in re.findall(r"^\w+ +(\d+) s   python", done.stdout, re.MULTILINE)]
    together, most = map(int, re.findall(r"all limits together: (\d+) s, of (\d+) s", done.stdout)[0])
    assert sum(limits) < together < most == 540
    assert [line.split("|")[3] for line in piped] == list(parts.values())
    monkeypatch.chdir(ROOT)
    assert problems(piped, main) == []


def test_without_a_gpu_it_says_so(gpu):
    done, _ = gpu()
    assert done.returncode == 2
    assert "torch sees no GPU here" in done.stderr
    assert "bash bench/gpu.sh --dry-run" in done.stderr


def test_an_unknown_option_is_said(gpu):
    done, _ = gpu("--dry")
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

    found = problem(arguments, main)
    assert wrong in found
    assert bool(found) == bool(wrong)


def test_a_part_that_does_not_parse_is_named():
    from prefmill.cli.main import main

    parts = ["lost|5||-m pytest tests/nowhere", "speck|5||-m prefmill.cli.main bench engines --speck 1"]
    assert problems(parts, main) == [
        "lost does not parse: tests/nowhere is no folder",
        "speck does not parse: unknown --speck",
    ]


@pytest.mark.parametrize(
    "command",
    [
        "run tiny --to WORK --set engine.devise=cuda",
        "train reward WORK --micro --set devise=cuda",
        "train generator WORK --tuning micro --set devise=cuda",
    ],
)
def test_a_setting_that_is_none_is_named(command):
    assert "devise" in unsettable(command.split())
    assert unsettable(command.replace("devise", "device").split()) == ""
