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


def test_what_a_training_leaves(image_run, generator_settings, generator_folder, tmp_path):
    """Through the launcher: an adapter that draws, its manifest, samples over time; and it is recognised as done."""
    config = generator_settings(method="refl", eval_every=2)
    manifest = train_generator(image_run, tmp_path / "out", config)
    assert manifest.backend.name == "refl"
    assert manifest.steps == 4
    assert manifest.prompts == 4
    samples = json.loads((tmp_path / "out/samples/samples.json").read_text())
    assert [one["step"] for one in samples["steps"]] == [0, 2, 4]
    with Image.open(tmp_path / "out/samples/strip.png") as strip:
        assert strip.size == (16, 3 * 16)
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[3]["eval_reward"] == manifest.summary["samples"]["last"]["eval_reward"]
    adapted = TextToImage.from_pretrained(
        str(generator_folder), EngineSettings(device="cpu"), t5_tokens=0, adapter=tmp_path / "out/adapter"
    )
    assert adapted.generate_float(["a boat"], [1.0], [1], steps=2, width=16, height=16).isfinite().all()
    assert train_generator(image_run, tmp_path / "out", config) == manifest


def test_two_processes_under_zero_are_one(image_run, generator_settings, tmp_path):
    """Losses, norms and weights of ZeRO-2 in two processes against one process without DeepSpeed."""
    settings = {"flow_dpo": {"online": True, "group_size": 2, "beta": 20.0}, "steps": 3, "eval_every": 3}
    told = []
    for name, world in (("one", {"zero_stage": 0}), ("two", {"zero_stage": 2, "processes": 2})):
        train_generator(image_run, tmp_path / name, generator_settings(**settings, **world))
        text = (tmp_path / name / "metrics.jsonl").read_text()
        told.append([json.loads(line) for line in text.splitlines()])
    one, two = told
    assert len(one) == len(two) == 3
    for name in ("loss", "grad_norm", "reward", "accuracy"):
        assert [line[name] for line in one] == pytest.approx([line[name] for line in two], rel=1e-4, abs=1e-5)
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(one, two, strict=True)) <= 1e-5
    assert one[0]["loss"] != one[2]["loss"]
