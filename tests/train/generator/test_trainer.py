"""The loop: what it leaves, that it continues where it stopped, and that processes do not change it."""

import json
import math

import pytest
import torch
from PIL import Image
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.settings import EngineSettings
from prefmill.train.checkpoints import newest_complete
from prefmill.train.generator.trainer import GeneratorTrainer, learning_rate
from prefmill.train.generator.training import train_generator
from safetensors.torch import load_file

COLUMNS = ("loss", "grad_norm", "reward", "reward_std", "diversity", "accuracy", "eval_reward")


def online(generator_settings, **changes):
    values = {"online": True, "group_size": 2, "reference_every": 3}
    return generator_settings(flow_dpo=values, save_every=2, eval_every=2, **changes)


def columns(job):
    return [[line.get(name) for name in COLUMNS] for line in job.metrics.read()]


def test_a_training_that_continues_is_an_undisturbed_one(make_job, generator_settings, tmp_path):
    undisturbed = make_job(online(generator_settings), tmp_path / "whole")
    GeneratorTrainer(undisturbed).run()
    # Killed after its first checkpoint: a training of the same settings that goes no further.
    begun = make_job(online(generator_settings), tmp_path / "parts")
    trainer = GeneratorTrainer(begun)
    for step in range(2):
        loss = trainer._step(step)
        trainer._log(step + 1, [loss], 1.0)
    trainer._save(2)
    resume = newest_complete(begun.checkpoints)
    assert resume
    assert resume.step == 2
    continued = make_job(online(generator_settings), tmp_path / "parts", resume)
    GeneratorTrainer(continued).run()
    assert columns(continued) == columns(undisturbed)
    for name in ("policy.safetensors", "adapter_model.safetensors"):
        whole, parts = (load_file(job.checkpoints / "checkpoint-4" / name) for job in (undisturbed, continued))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert any(
        key.startswith("anchor.") for key in load_file(undisturbed.checkpoints / "checkpoint-4" / "policy.safetensors")
    )


def test_rates_of_the_schedules(generator_settings):
    config = generator_settings(schedule="cosine", warmup_steps=2, steps=6, learning_rate=1.0)
    expected = [0.5, 1.0, *(0.5 + 0.5 * math.cos(math.pi * done / 4) for done in range(4))]
    assert [learning_rate(config, step) for step in range(6)] == pytest.approx(expected)


SETTINGS = {"flow_dpo": {"online": True, "group_size": 2, "beta": 20.0}, "steps": 3, "eval_every": 3}


@pytest.fixture(scope="module")
def one(image_run, generator_settings, tmp_path_factory, forked_workers):
    """A training of one process, through the launcher: its folder and its manifest."""
    folder = tmp_path_factory.mktemp("one") / "out"
    return folder, train_generator(image_run, folder, generator_settings(**SETTINGS))


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_a_training_leaves(one, image_run, generator_settings, generator_folder):
    """An adapter that draws, its manifest, samples over time; and it is recognised as done."""
    folder, manifest = one
    assert (manifest.backend.name, manifest.steps, manifest.prompts, manifest.pairs) == ("flow-dpo", 3, 4, 0)
    samples = json.loads((folder / "samples/samples.json").read_text())
    assert [step["step"] for step in samples["steps"]] == [0, 3]
    with Image.open(folder / "samples/strip.png") as strip:
        assert strip.size == (16, 2 * 16)
    lines = lines_of(folder)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[2]["eval_reward"] == manifest.summary["samples"]["last"]["eval_reward"]
    adapted = TextToImage.from_pretrained(
        str(generator_folder), EngineSettings(device="cpu"), t5_tokens=0, adapter=folder / "adapter"
    )
    assert adapted.generate_float(["a boat"], [1.0], [1], steps=2, width=16, height=16).isfinite().all()
    assert train_generator(image_run, folder, generator_settings(**SETTINGS)) == manifest


def test_two_processes_under_zero_are_one(one, image_run, generator_settings, tmp_path):
    """Losses and norms of ZeRO-2 in two processes against one process without DeepSpeed."""
    manifest = train_generator(image_run, tmp_path / "two", generator_settings(**SETTINGS, zero_stage=2, processes=2))
    assert (manifest.backend.engine, manifest.backend.processes) == ("deepspeed.runtime.engine.DeepSpeedEngine", 2)
    alone, together = lines_of(one[0]), lines_of(tmp_path / "two")
    assert len(alone) == len(together) == 3
    for name in ("loss", "grad_norm", "reward", "accuracy"):
        assert [line[name] for line in alone] == pytest.approx([line[name] for line in together], rel=1e-4, abs=1e-5)
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(alone, together, strict=True)) <= 1e-5
    assert alone[0]["loss"] != alone[2]["loss"]
