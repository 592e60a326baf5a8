"""Pairs held out: never trained on, evaluated alike by both backends, in the steps' lines of metrics.jsonl."""

import json
import math
import time
from typing import Any

import huggingface_hub.constants
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.train import trl_backend
from prefmill.train.adapter_training import train
from prefmill.train.collate import PairCollator
from prefmill.train.data import RunImages, hold_out, load_pairs, pairs_digest
from prefmill.train.job import TrainingJob
from prefmill.train.preference import trainer as shared
from transformers import AutoProcessor

SHARE = 0.2  # three of the six pairs
NAMES = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen")


@pytest.fixture
def make_job(run_folder, model_folder, settings, tmp_path, monkeypatch):
    # the launcher tells its workers the same: nobody is called home
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)

    def make(name, backend="shared", share=SHARE, **changes):
        (tmp_path / name).mkdir()
        config = settings(zero_stage=0, backend=backend, eval_share=share, **{"eval_every": 2, **changes})
        collator, images = PairCollator(AutoProcessor.from_pretrained(model_folder)), RunImages(run_folder)
        pairs, held_out = hold_out(load_pairs(run_folder), images.prompts(), SHARE)
        return TrainingJob(
            *(config, model_folder, collator, pairs, images, tmp_path / name, None, "cpu", "float32"),
            time.monotonic(),
            held_out if share else [],
        )

    return make


def trained(job) -> Any:
    build = shared.build_trainer if job.config.backend == "shared" else trl_backend.build_trainer
    trainer: Any = build(job)
    trainer.train()
    return trainer


def lines(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def numbers(line):
    """A line without its clocks and its memory."""
    measured = ("device_hours", "peak_memory")
    return {name: value for name, value in line.items() if "second" not in name and name not in measured}


@pytest.mark.parametrize("sft_weight", [0, 0.2])
def test_both_backends_say_the_same(make_job, sft_weight):
    """After 2, 4 and the last of 5 steps, in the steps' own lines, which are otherwise those without evaluation."""
    settings = {"batch_size": 3, "accumulation": 1, "max_steps": 5, "sft_weight": sft_weight, "schedule": "constant"}
    ours, theirs = (make_job(backend, backend, **settings) for backend in ("shared", "trl"))
    assert len(ours.held_out) == 3
    for job in (ours, theirs):
        trained(job)
    found, expected = lines(ours.output), lines(theirs.output)
    assert [line["step"] for line in found] == [line["step"] for line in expected] == [1, 2, 3, 4, 5]
    for line, other in zip(found, expected, strict=True):
        assert ("eval_loss" in line) == ("eval_loss" in other) == (line["step"] in (2, 4, 5))
        if "eval_loss" in line:
            for name in NAMES:
                assert line[f"eval_{name}"] == pytest.approx(other[f"eval_{name}"], rel=1e-4, abs=1e-5), name
            assert line["eval_seconds"] > 0
            assert not {"eval_samples_per_second", "eval_num_tokens"} & {*line, *other}
    assert abs(found[-1]["eval_loss"] - found[1]["eval_loss"]) > 1e-3
    plain = make_job("plain", share=0, **settings)
    trained(plain)
    usual = [{name: value for name, value in line.items() if not name.startswith("eval_")} for line in found]
    assert [numbers(line) for line in usual] == [numbers(line) for line in lines(plain.output)]


def test_it_is_the_mean_over_pairs_in_whatever_batches(make_job):
    """Three pairs in batches of two: not the mean of the batches' means."""
    trainer = trained(make_job("twos", batch_size=2, image_weight=1, anchor_weight=1, margin_weight="linear"))
    found = trainer.evaluate()
    alone = [trainer.evaluate([pair]) for pair in trainer.job.held_out]
    for name in (*NAMES, "rewards/image_margins", "rewards/image_accuracies"):
        each = [one[f"eval_{name}"] for one in alone]
        assert found[f"eval_{name}"] == pytest.approx(sum(each) / 3, rel=1e-5, abs=1e-6), name
    assert alone[0]["eval_loss"] != pytest.approx(alone[2]["eval_loss"], abs=1e-4)


def test_a_pair_held_out_that_breaks_is_named(make_job, monkeypatch):
    job = make_job("broken", batch_size=3, accumulation=1)
    trainer: Any = shared.build_trainer(job)
    get = shared.PairBatches.__call__

    def broken(batches, pairs):
        batch = get(batches, pairs)
        if batch["reference"] is not None and batch["pairs"][1] == job.held_out[1].id:
            batch["reference"][1] = math.nan
        return batch

    monkeypatch.setattr(shared.PairBatches, "__call__", broken)
    with pytest.raises(PrefmillError, match=f"the loss of pair {job.held_out[1].id} is nan at step 2"):
        trainer.train()


class Stopped(Exception):
    """The launcher's caller had enough."""


STEPS = {"max_steps": 24, "save_every": 4, "eval_every": 2, "eval_share": SHARE, "accumulation": 2}


@pytest.fixture(scope="module")
def whole(run_folder, settings, tmp_path_factory):
    """A whole training with DeepSpeed and evaluation: (output, manifest)."""
    output = tmp_path_factory.mktemp("whole") / "output"
    config = settings(backend="shared", image_weight=1, margin_weight="linear", disable_dropout=False, **STEPS)
    return output, config, train(run_folder, output, config)


def test_manifest_says_what_was_held_out(whole, run_folder):
    output, _, manifest = whole
    pairs, held_out = hold_out(load_pairs(run_folder), RunImages(run_folder).prompts(), SHARE)
    assert (manifest.pairs, manifest.pairs_digest) == (len(pairs), pairs_digest(pairs))
    assert (manifest.held_out, manifest.held_out_digest) == (len(held_out), pairs_digest(held_out))
    clocks = sum(line["seconds"] + line.get("eval_seconds", 0) for line in lines(output))
    assert manifest.device_seconds == pytest.approx(clocks, abs=1e-2)
    assert [line["step"] for line in lines(output) if "eval_loss" in line] == list(range(2, 25, 2))


def test_a_stopped_training_continues_to_the_bit(whole, run_folder, tmp_path):
    """With dropout, whose draws an evaluation must not move otherwise than before."""
    output, config, manifest = whole

    def stop(event):
        if event.kind == "step" and event.step >= 6:
            raise Stopped

    with pytest.raises(Stopped):
        train(run_folder, tmp_path, config, stop)
    assert len(lines(tmp_path)) < 24
    assert train(run_folder, tmp_path, config).adapter_sha256 == manifest.adapter_sha256
    assert [numbers(line) for line in lines(tmp_path)] == [numbers(line) for line in lines(output)]


def test_two_processes_evaluate_every_pair_once(run_folder, settings, tmp_path):
    """Three pairs on two processes, after a step on the same two: what fills the last batch does not count twice."""
    for processes in (1, 2):
        changes = {"backend": "shared", "max_steps": 1, "processes": processes, "accumulation": 2 // processes}
        train(run_folder, tmp_path / str(processes), settings(**{**STEPS, **changes}))
    (one,), (two,) = (lines(tmp_path / name) for name in "12")
    for name in NAMES:
        assert one[f"eval_{name}"] == pytest.approx(two[f"eval_{name}"], rel=1e-4, abs=1e-6), name
    assert abs(one["eval_loss"] - math.log(2)) > 1e-3
