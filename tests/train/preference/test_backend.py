"""`backend: shared` as a user starts it: processes, DeepSpeed's engine, a kill, and what the manifest says."""

import json
import multiprocessing
import shutil

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.train.adapter_training import train
from prefmill.train.checkpoints import newest_complete
from prefmill.train.data import load_pairs
from prefmill.train.zero2 import ENGINE_CLASS
from safetensors.torch import load_file

from ..conftest import TEXTS, write_run

# of which several pass while a kill is on its way
STEPS = {"max_steps": 18, "save_every": 3}


def lines(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def losses(output):
    return [line["loss"] for line in lines(output)]


@pytest.fixture(scope="module")
def trained(run_folder, settings, tmp_path_factory):
    """A whole training with ZeRO-2 in one process: (output, manifest, events)."""
    output, events = tmp_path_factory.mktemp("trained") / "output", []
    config = settings(backend="shared", **STEPS)
    return output, train(run_folder, output, config, events.append), events


def test_manifest_and_metrics_say_what_was_done(trained):
    output, manifest, _ = trained
    assert (manifest.backend.name, manifest.backend.engine, manifest.backend.zero_stage) == ("shared", ENGINE_CLASS, 2)
    assert any(note.startswith("features of 6 images cached") for note in manifest.backend.notes)
    assert any("reference log-probabilities of 6 pairs cached" in note for note in manifest.backend.notes)
    assert losses(output)[0] == pytest.approx(0.693147, abs=1e-6)
    assert losses(output)[-1] < 0.6
    for line in lines(output):
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"], rel=0.01)
    # three steps of two pairs are one epoch, in whatever order
    assert len({sum(line["tokens"] for line in lines(output)[start : start + 3]) for start in range(0, 18, 3)}) == 1
    assert not (output / "cache").exists()
    assert not (output / "checkpoints").exists()
    weights = load_file(output / "adapter" / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.model.language_model.layers.") for name in weights)


def test_two_processes_learn_what_one_learns(trained, run_folder, settings, tmp_path):
    """Two processes with a pair each take the steps of one process with two pairs, in DeepSpeed's engine."""
    config = settings(backend="shared", processes=2, accumulation=1, **STEPS)
    manifest = train(run_folder, tmp_path, config)
    assert (manifest.backend.engine, manifest.backend.processes) == (ENGINE_CLASS, 2)
    assert losses(tmp_path) == pytest.approx(losses(trained[0]), abs=1e-6)


def test_engine_in_bfloat16_leaves_the_reference_exact(run_folder, settings, tmp_path):
    """DeepSpeed's precision is the model's: log-probabilities of a hundred, rounded to it, are off by a half."""
    manifest = train(run_folder, tmp_path, settings(backend="shared", precision="bfloat16", max_steps=2))
    assert (manifest.backend.engine, manifest.backend.precision) == (ENGINE_CLASS, "bfloat16")
    assert manifest.loss["first"] == pytest.approx(0.693147, abs=1e-6)


def test_killed_training_continues_to_the_bit(trained, run_folder, settings, tmp_path):
    """The worker is killed after its first checkpoint: curve and adapter are those of the training without a kill."""
    config = settings(backend="shared", **STEPS)

    def kill(event):
        if newest_complete(tmp_path / "checkpoints"):
            for worker in multiprocessing.active_children():
                worker.kill()

    with pytest.raises(PrefmillError, match="ended from outside"):
        train(run_folder, tmp_path, config, kill)
    stopped = newest_complete(tmp_path / "checkpoints")
    assert stopped is not None
    assert 0 < stopped.step < STEPS["max_steps"]
    manifest = train(run_folder, tmp_path, config)
    assert manifest.adapter_sha256 == trained[1].adapter_sha256
    assert losses(tmp_path) == losses(trained[0])


def test_another_family_by_name_and_pairs_that_are_left_out(settings, tmp_path, monkeypatch):
    """Qwen3-VL, made on the spot, with ZeRO-2: what cannot be trained on is in the manifest with its reason."""
    monkeypatch.setenv("PREFMILL_CACHE", str(tmp_path / "cache"))
    bad = [("Say <|im_end|>", "Yes.", "No."), ("What?", "A cat.", "A cat."), ("Who?", "", "Nobody.")]
    run = write_run(tmp_path / "run", [*TEXTS, *bad], shapes=[(84, 84), (120, 56)])
    ids = [pair.id for pair in load_pairs(run)]
    config = settings(backend="shared", model="random:qwen3-vl", max_steps=3, save_every=3)
    manifest = train(run, tmp_path / "output", config)
    assert (manifest.backend.name, manifest.pairs) == ("shared", 6)
    assert manifest.excluded == {
        "control token in a text": [ids[6]],
        "equal answers": [ids[7]],
        "empty answer": [ids[8]],
    }
    assert losses(tmp_path / "output")[0] == pytest.approx(0.693147, abs=1e-6)
    assert abs(losses(tmp_path / "output")[-1] - 0.693147) > 1e-3


def test_a_tokenizer_of_another_model_stops_before_training(run_folder, model_folder, settings, tmp_path):
    shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["text_config"]["vocab_size"] -= 1
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(PrefmillError, match=r"the tokenizer in .* is another model's") as caught:
        train(run_folder, tmp_path / "output", settings(backend="shared", model=str(tmp_path / "model")))
    assert "put the tokenizer files" in caught.value.fix
