"""What a line of metrics.jsonl tells of time and money, and a warning's way to the user and into the manifest."""

import time

import huggingface_hub.constants
import pytest
import torch
from prefmill.train import reporter, trl_backend, watch
from prefmill.train.adapter_training import train
from prefmill.train.collate import PairCollator
from prefmill.train.data import RunImages, load_pairs
from prefmill.train.events import MetricsFile
from prefmill.train.flops import PairLengths, needed_flops
from prefmill.train.job import TrainingJob
from prefmill.train.preference import trainer as shared
from prefmill.train.preference.batches import PairBatches
from prefmill.train.shape import shape_of_folder
from prefmill.train.utilisation import UtilisationMeter, utilisation_meter
from transformers import AutoProcessor

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def make_job(run_folder, model_folder, settings, tmp_path, monkeypatch):
    # the launcher tells its workers the same: nobody is called home
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)

    def make(**changes):
        collator, images = PairCollator(AutoProcessor.from_pretrained(model_folder)), RunImages(run_folder)
        return TrainingJob(
            *(settings(zero_stage=0, **changes), model_folder, collator, load_pairs(run_folder), images),
            *(tmp_path, None, "cpu", "float32", time.monotonic()),
        )

    return make


def lengths_of(job):
    """The pairs' lengths as the shared backend lays them out."""
    batches = PairBatches(job, "mask")
    return [PairLengths(*batches.tokens(pair).spans) for pair in job.pairs]


def test_time_money_memory_and_the_warning(run_folder, settings, tmp_path):
    messages = []
    config = settings(
        zero_stage=0,
        dollars_per_hour=3600,
        loss="hinge",
        learning_rate=0.05,
        max_steps=watch.WINDOW + 4,
        save_every=100,
    )
    manifest = train(run_folder, tmp_path / "out", config, lambda event: messages.append(event.message))
    lines = MetricsFile(tmp_path / "out" / "metrics.jsonl").read()
    total = 0.0
    for line in lines:
        total += line["seconds"]
        assert line["device_hours"] == pytest.approx(total / 3600, abs=1e-6)
        assert line["dollars"] == pytest.approx(total, abs=0.01)
        assert 5e7 < line["peak_memory"] < 2e10
    recent = [line["rewards/chosen"] / 0.1 for line in lines]
    means = [sum(recent[end - watch.WINDOW : end]) / watch.WINDOW for end in range(watch.WINDOW, len(recent) + 1)]
    fell = any(mean < -watch.FALL for mean in means)
    said = [message for message in messages if message.startswith(watch.CHOSEN_FALL)]
    kept = [note for note in manifest.backend.notes if note.startswith(watch.CHOSEN_FALL)]
    assert fell, means
    assert len(said) == 1
    assert kept == said


def test_utilisation_by_hand():
    """Two devices of 10 floating-point operations a second; 3 for a pair, 4 pairs a second."""
    assert UtilisationMeter(3, 2 * 10)(4) == pytest.approx(0.6)


def test_the_meter_knows_devices_pairs_and_branches(make_job, model_folder):
    job, shape = make_job(backend="shared"), shape_of_folder(model_folder)
    lengths, state = lengths_of(job), torch.get_rng_state()
    needed = needed_flops(shape, lengths, 4) / 6
    assert utilisation_meter(job, H100, 8) == UtilisationMeter(needed, 8 * 989e12)
    assert utilisation_meter(job, "cpu", 8) is None
    branches = needed_flops(shape, [PairLengths(one.prompt, one.chosen, 0) for one in lengths], 4) / 6
    meter = utilisation_meter(make_job(backend="shared", image_weight=1.0), H100, 1)
    assert meter is not None
    assert meter.pair_flops == pytest.approx(needed + branches)
    assert torch.equal(state, torch.get_rng_state()), "the first process would draw other numbers than the others"


@pytest.mark.parametrize("backend", ["shared", "trl"])
def test_speed_and_utilisation_in_every_line(make_job, model_folder, monkeypatch, backend):
    """The device's name alone is given: the training runs on this machine."""
    monkeypatch.setattr(reporter, "device_name", lambda job: H100)
    job = make_job(backend=backend, max_steps=3)
    trainer = (shared if backend == "shared" else trl_backend).build_trainer(job)
    trainer.train()
    lengths = lengths_of(job)
    needed = needed_flops(shape_of_folder(model_folder), lengths, 4) / 6
    lines = job.metrics.read()
    assert len(lines) == 3
    for line in lines:
        assert line["mfu"] == pytest.approx(needed * line["pairs_per_second"] / 989e12, rel=1e-3)
    read = sum(line["tokens_per_second"] * line["seconds"] for line in lines)  # three steps of two: all pairs once
    twice = sum(one.shared + one.prompt for one in lengths)
    assert read == pytest.approx(sum(one.shared for one in lengths) if backend == "shared" else twice, rel=0.01)


def test_a_model_that_cannot_be_counted_is_trained_all_the_same(make_job, monkeypatch):
    def fails(folder):
        raise AttributeError("no vision_config")

    monkeypatch.setattr(reporter, "device_name", lambda job: H100)
    monkeypatch.setattr("prefmill.train.utilisation.shape_of_folder", fails)
    job = make_job(backend="shared", max_steps=1)
    trainer = shared.build_trainer(job)
    trainer.train()
    notes = next(one for one in trainer.callback_handler.callbacks if isinstance(one, reporter.Reporter)).notes
    assert "no mfu is told: AttributeError: no vision_config" in notes
    assert "mfu" not in job.metrics.read()[0]


def test_no_utilisation_is_told_on_a_cpu(make_job):
    job = make_job(backend="shared", max_steps=1)
    shared.build_trainer(job).train()
    assert "mfu" not in job.metrics.read()[0]
