"""Trainings as a user starts them: processes, engine, interruption, resume, manifest, and what goes wrong."""

import json
import math
import multiprocessing
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from prefmill.base.errors import PrefmillError
from prefmill.base.files import sha256_of
from prefmill.base.locks import exclusive
from prefmill.engine.checkpoint import checkpoint_key
from prefmill.pipeline.records import Pair
from prefmill.pipeline.store import Run
from prefmill.train import launch
from prefmill.train.adapter_training import train
from prefmill.train.checkpoints import newest_complete
from prefmill.train.zero2 import ENGINE_CLASS
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from ..forked_worker import be_launcher, fork, workers_of

CURVE = ("step", "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "learning_rate")


def curve(output: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [[line[key] for key in CURVE] for line in lines]


def losses(output: Path) -> list[float]:
    return [line[1] for line in curve(output)]


STEPS = 24  # of which several pass while a kill is on its way


@pytest.fixture(scope="module")
def trained(run_folder, settings, tmp_path_factory):
    """A whole training with DeepSpeed in one process: (output, manifest, events)."""
    output, events = tmp_path_factory.mktemp("trained") / "output", []
    manifest = train(run_folder, output, settings(max_steps=STEPS), events.append)
    return output, manifest, events


@pytest.fixture(scope="module")
def plain(run_folder, settings, tmp_path_factory):
    """The same without DeepSpeed: (output, manifest)."""
    output = tmp_path_factory.mktemp("plain") / "output"
    return output, train(run_folder, output, settings(max_steps=STEPS, zero_stage=0))


def test_events_tell_every_step_in_order(trained):
    _, _, events = trained
    steps = [event for event in events if event.kind == "step"]
    assert [event.step for event in steps] == list(range(1, STEPS + 1))
    assert {event.steps for event in steps} == {STEPS}
    for event in steps:
        assert event.metrics["pairs_per_second"] * event.metrics["seconds"] == pytest.approx(2, rel=0.01)
    assert events[-1].kind == "finished"


def test_manifest_chains_adapter_to_weights(trained, run_folder, model_folder):
    output, manifest, _ = trained
    assert manifest.backend.engine == ENGINE_CLASS
    assert (manifest.backend.zero_stage, manifest.backend.precision, manifest.backend.device) == (2, "float32", "cpu")
    assert manifest.base_model_key == checkpoint_key(model_folder)
    assert manifest.adapter_sha256 == sha256_of(output / "adapter" / "adapter_model.safetensors")
    assert {name: (stage.fingerprint, stage.models) for name, stage in manifest.stages.items()} == {
        "candidates": ("candidates-0123", ["candidates-model@4567"]),
        "pairs": ("pairs-0123", ["pairs-model@4567"]),
    }
    assert manifest.pairs == len(Run.open(run_folder).dataset("pairs", Pair))
    assert manifest.loss["curve"][-1][:2] == [STEPS, manifest.loss["last"]]
    assert 0 < manifest.device_seconds < manifest.seconds
    assert manifest.versions["deepspeed"]
    assert not (output / "checkpoints").exists()


def test_adapter_loads_back_and_changes_the_model(trained, model_folder):
    """Base + adapter from disk is the model that was trained: only LoRA on the language model, and it acts."""
    output = trained[0]
    weights = load_file(output / "adapter" / "adapter_model.safetensors")
    assert all(".language_model.layers." in name for name in weights)
    layers = Counter(name.split(".")[-3] for name in weights)
    assert set(layers) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(layers.values()) == {2 * 2}  # two layers, A and B
    assert all(weight.abs().max() > 0 for weight in weights.values())

    base = LlavaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32).eval()
    inputs = AutoProcessor.from_pretrained(model_folder)(text="USER: What is red? ASSISTANT:", return_tensors="pt")
    with torch.no_grad():
        before = base(**inputs).logits
        adapted = PeftModel.from_pretrained(base, output / "adapter").eval()
        after = adapted(**inputs).logits
        with adapted.disable_adapter():
            disabled = adapted(**inputs).logits
    assert (after - before).abs().max() > 1e-2
    assert torch.equal(disabled, before)
    assert json.loads((output / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        model_folder
    )


def test_finished_output_is_not_trained_again(trained, run_folder, settings):
    output, manifest, _ = trained
    written = (output / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    events = []
    assert train(run_folder, output, settings(max_steps=STEPS), events.append) == manifest
    assert [event.kind for event in events] == ["finished"]
    assert "already trained" in events[0].message
    assert (output / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(PrefmillError, match=r"learning_rate was 0\.001, now 0\.5"):
        train(run_folder, output, settings(max_steps=STEPS, learning_rate=0.5))


def test_deepspeed_learns_what_plain_training_learns(trained, plain):
    """The same losses without DeepSpeed over all steps; one float32 rounding of a loss near 1 is 6e-8."""
    assert "deepspeed" not in plain[1].backend.engine
    assert losses(plain[0]) == pytest.approx(losses(trained[0]), abs=2e-6)
    assert losses(plain[0])[-1] < 0.5, "the losses must move for their equality to mean something"


def test_two_processes_learn_what_one_learns(trained, run_folder, settings, tmp_path):
    """Two processes with a pair each take the steps of one process with two pairs, in DeepSpeed's engine."""
    manifest = train(run_folder, tmp_path, settings(max_steps=STEPS, processes=2, accumulation=1))
    assert manifest.backend.engine == ENGINE_CLASS
    assert manifest.backend.processes == 2
    assert losses(tmp_path) == pytest.approx(losses(trained[0]), abs=2e-6)


def test_killed_and_interrupted_training_continues_exactly(trained, run_folder, settings, tmp_path):
    """SIGKILL of the launcher, then Ctrl-C, then the rest: the same curve and adapter as without a stop.

    Bit for bit: the optimizer's float32 state, the generator states and the place in the data order are restored,
    and one thread adds in one order.
    """
    config, broken = settings(max_steps=STEPS), tmp_path / "output"
    launcher = fork(be_launcher, (run_folder, broken, config, tmp_path / "said", {}))
    wait_for(lambda: newest_complete(broken / "checkpoints"))
    launcher.kill()
    launcher.join()
    # a worker that still lives would take the folder below for a newer checkpoint of its own, and drop a good one
    wait_for(lambda: not workers_of(broken))
    half = broken / "checkpoints" / "checkpoint-22"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")

    events = []

    def continued_after():
        return next(event.step for event in events if event.message.startswith("continuing after step"))

    def interrupt_soon(event):
        events.append(event)
        if event.kind == "step" and event.step >= continued_after() + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_folder, broken, config, interrupt_soon)
    assert "checkpoint-22 was not written to its end and is removed" in [event.message for event in events]
    assert "the same command continues after step" in events[-1].message
    stopped = newest_complete(broken / "checkpoints")
    assert stopped is not None
    assert continued_after() < stopped.step < STEPS

    with pytest.raises(PrefmillError, match="max_steps was 24, now 25"):
        train(run_folder, broken, settings(max_steps=25))
    assert train(run_folder, broken, config).adapter_sha256 == trained[1].adapter_sha256
    assert curve(broken) == curve(trained[0])


def test_training_without_deepspeed_survives_the_death_of_a_worker(plain, run_folder, settings, tmp_path):
    """A worker killed from outside is reported as that; plain checkpoints continue exactly as well."""
    config = settings(max_steps=STEPS, zero_stage=0)

    def kill_worker(event):
        # at the first step that is heard of: on a busy machine the worker is some steps further by then
        if event.kind == "step":
            for worker in multiprocessing.active_children():
                worker.kill()

    with pytest.raises(PrefmillError, match="ended from outside"):
        train(run_folder, tmp_path, config, kill_worker)
    assert train(run_folder, tmp_path, config).adapter_sha256 == plain[1].adapter_sha256
    assert curve(tmp_path) == curve(plain[0])


def test_bfloat16_keeps_float32_only_where_it_must(run_folder, settings, tmp_path):
    """The adapter is stored as it acts, in bfloat16; the first loss is log 2 there too."""
    manifest = train(run_folder, tmp_path, settings(precision="bfloat16", gradient_checkpointing=True, max_steps=2))
    assert (manifest.backend.precision, manifest.backend.engine) == ("bfloat16", ENGINE_CLASS)
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert losses(tmp_path)[0] == pytest.approx(math.log(2), abs=1e-6)


def test_worker_error_reaches_the_user_without_traceback(run_folder, settings, tmp_path):
    with pytest.raises(PrefmillError, match="none of the 6 pairs can be trained on: 6 longer than 5 tokens") as caught:
        train(run_folder, tmp_path, settings(max_tokens=5))
    assert caught.value.fix.startswith("set max_tokens to at least ")
    assert "Traceback" not in str(caught.value)
    assert "Traceback" in (tmp_path / "train.log").read_text()


def test_one_training_at_a_time(run_folder, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_BUSY_SECONDS", 0)
    with (
        exclusive(tmp_path / ".lock"),
        pytest.raises(PrefmillError, match="is being trained by another process"),
    ):
        train(run_folder, tmp_path, settings())


def test_launcher_stays_light():
    """A command line that imports the launcher must not wait for torch or pyarrow."""
    probe = "import sys, prefmill.train.launch; print(*sorted({'torch', 'pyarrow', 'numpy', 'trl'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def wait_for(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
