"""SIGKILL at any moment: the same command continues, and ends in the adapter of a training that nobody disturbed.

Two processes under ZeRO-2. Moments and victims are drawn from a seed: while caches are filled, while a checkpoint is
written, and anywhere between. The suite draws a few; PREFMILL_KILLS=10 draws ten.
"""

import json
import os
import random
import shutil
import time

import pytest
from prefmill.train.adapter_training import train
from prefmill.train.manifest import read_manifest

from ...forked_worker import Forked, be_launcher, fork, workers_of

KILLS = int(os.environ.get("PREFMILL_KILLS", "2"))
MOMENTS = ("filling caches", "writing a checkpoint", "somewhere")
STEPS, PATIENCE = max(14, 6 * KILLS), 100


@pytest.fixture(scope="module")
def config(settings):
    return settings(backend="shared", processes=2, accumulation=1, max_steps=STEPS, save_every=2)


@pytest.fixture(scope="module")
def undisturbed(run_folder, config, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "output"
    return output, train(run_folder, output, config)


def losses(output):
    return [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_a_training_survives_kills(run_folder, config, undisturbed, tmp_path):
    stream, told, output = random.Random(20), [], tmp_path / "output"
    for number in range(KILLS):
        moment, victim = MOMENTS[number % len(MOMENTS)], stream.choice(["launcher", "worker", "all"])
        if moment == "filling caches":
            shutil.rmtree(output / "cache", ignore_errors=True)  # else only the first training fills them
        launcher = Forked(fork(be_launcher, (run_folder, output, config, tmp_path / "said", {})))
        if not reached(moment, output, launcher, stream):
            told.append("finished before it could be killed")
            break
        told.append(f"{moment}, at step {steps(output)}: {victim} killed")
        kill(victim, output, launcher)
    print(*told, sep="\n")
    assert len(told) == KILLS, told
    assert not (output / "manifest.json").exists(), "killed, and not finished, is what is to be tested"
    manifest = train(run_folder, output, config)
    assert manifest == read_manifest(output)
    assert manifest.adapter_sha256 == undisturbed[1].adapter_sha256, told
    assert losses(output) == losses(undisturbed[0])
    assert {path.name for path in output.iterdir() if not path.name.startswith(".")} == {
        *("adapter", "curves.png", "manifest.json", "metrics.jsonl", "train.log", "training.json")
    }


def reached(moment, output, launcher, stream):
    """Wait for a moment; False where the training ended before it."""
    if moment == "filling caches":
        return came(launcher, lambda: any(output.glob("cache/*/*"))) and came(launcher, after(stream.uniform(0, 0.3)))
    if moment == "somewhere":
        return came(launcher, lambda: workers_of(output)) and came(launcher, after(stream.uniform(0, 12)))
    before = steps(output)
    return came(launcher, lambda: steps(output) > before) and (
        came(launcher, after(stream.uniform(0, 0.5)))
        and came(launcher, lambda: any(half_written(path) for path in output.glob("checkpoints/checkpoint-*")))
        and came(launcher, after(stream.uniform(0, 0.02)))
    )


def came(launcher, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        if launcher.poll() is not None:
            return False
        time.sleep(0.001)
    return launcher.poll() is None


def after(seconds):
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def half_written(checkpoint):
    return not (checkpoint / "complete.json").exists()


def steps(output):
    path = output / "metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def kill(victim, output, launcher):
    """Kill and wait until nothing of the training lives."""
    if victim in {"launcher", "all"}:
        launcher.kill()
    if victim in {"worker", "all"}:
        for worker in workers_of(output)[: 1 if victim == "worker" else None]:
            worker.kill()
    launcher.wait(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while workers_of(output):
        assert time.monotonic() < deadline, "a worker outlives its launcher"
        time.sleep(0.05)
