"""Trainings give the same files for the same seed, load as official checkpoints do, and report where they are."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.settings import EngineSettings
from prefmill.micro import checkpoints
from prefmill.micro.checkpoints import train_all, verify
from prefmill.micro.measure.selection import SCORERS, score_candidates
from prefmill.micro.teach import autoencoder as train_autoencoder
from prefmill.micro.teach import comparators as train_comparators
from prefmill.micro.teach import generator as train_generator
from prefmill.micro.teach import image_reward as train_image_reward
from prefmill.micro.teach.lessons import TRUTHFUL
from prefmill.micro.teach.responder_models import RESPONDERS, ResponderSpec
from prefmill.micro.teach.training import TrainingStep
from prefmill.micro.world.candidates import open_generator
from prefmill.micro.world.render import render_all
from prefmill.micro.world.scenes import sample_scenes

QUICK = {
    train_autoencoder: {"STEPS": 2, "BATCH": 4},
    train_generator: {"STEPS": 2, "CACHED_LATENTS": 256, "BATCH": 8},
    train_comparators: {"CLIP_STEPS": 2, "MATCHING_STEPS": 2, "CLIP_BATCH": 8, "MATCHING_BATCH": 8},
    train_image_reward: {
        "STEPS": 2,
        "VISION_STEPS": 2,
        "VISION_BATCH": 8,
        "RENDERED": 6,
        "PROMPTS": 6,
        "MORPHED": 6,
    },
}
NAMES = ["text-to-image", "clip", "blip-matching", "image-reward", "responder-d"]


@pytest.fixture
def quick(monkeypatch):
    """Two steps of everything, and no measuring."""
    for module, values in QUICK.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setitem(RESPONDERS, "responder-d", ResponderSpec(1, 32, 1, 32, 1, 2, 2, TRUTHFUL))
    monkeypatch.setattr(checkpoints, "measure_again", lambda root, names=None: None)
    # two steps draw nothing legible: keep all training pictures
    monkeypatch.setattr(train_image_reward, "of_training_only", lambda candidates: candidates)


def hashes(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def test_a_seed_gives_the_same_files_and_another_seed_others(quick, tmp_path):
    reports: list[TrainingStep] = []
    manifest = train_all(tmp_path / "one", 0, NAMES, reports.append)
    torch.rand(7)  # what was drawn before must not matter
    train_all(tmp_path / "two", 0, NAMES)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    weights = [name for name in hashes(tmp_path / "one") if name.endswith(".safetensors")]
    assert len(weights) == 8  # the generator has four models
    shutil.copytree(tmp_path / "one" / "text-to-image", tmp_path / "other" / "text-to-image")  # what clip needs
    other = train_all(tmp_path / "other", 1, ["clip", "responder-d"])["checkpoints"]
    for name in ("clip", "responder-d"):
        files = other[name]["files"], manifest["checkpoints"][name]["files"]
        assert all(one["model.safetensors"] for one in files)
        assert files[0]["model.safetensors"] != files[1]["model.safetensors"]

    assert sorted(manifest["checkpoints"]) == sorted(NAMES)
    assert manifest["checkpoints"]["clip"]["command"] == "prefmill micro train clip --seed 0"
    assert {"autoencoder", "text to image", "CLIP", "BLIP", "image reward", "answers"} <= {one.part for one in reports}
    last = {report.part: report for report in reports}
    assert all(report.step == report.steps for report in last.values())

    settings = EngineSettings(device="cpu", dtype="float32")
    generator = open_generator(tmp_path / "one" / "text-to-image")
    drawn = generator.generate(["a red ball at top left on gray"], [5.0], [1], steps=2, width=32, height=32)
    assert drawn.images.shape == (1, 32, 32, 3)
    picture = render_all(sample_scenes("dev", 1, 0), 0)[0]
    for name in SCORERS:
        source = str(tmp_path / "one" / name)
        scores = score_candidates(name, source, picture[None, None], ["a red ball at top left on gray"], settings)
        assert scores.shape == (1, 1)
        assert np.isfinite(scores).all()


def test_a_checkpoint_needs_those_it_is_made_from(quick, tmp_path):
    with pytest.raises(PrefmillError, match="'image-reward' needs 'text-to-image'"):
        train_all(tmp_path, 0, ["image-reward"])
    with pytest.raises(PrefmillError, match="no micro checkpoint 'nothing'"):
        train_all(tmp_path, 0, ["nothing"])


def test_verify_names_what_was_changed(quick, tmp_path, monkeypatch):
    train_all(tmp_path, 0, ["responder-d"])
    manifest = checkpoints.read_manifest(tmp_path)
    manifest["checkpoints"]["responder-d"]["quality"] = {"chair_s": 0.5}
    checkpoints._write_manifest(tmp_path, manifest)
    measured = {"chair_s": 0.51}
    recipe = checkpoints.CheckpointRecipe(lambda *_: None, lambda *_: measured)
    monkeypatch.setitem(checkpoints.RECIPES, "responder-d", recipe)
    assert verify(tmp_path)[0].differences == []
    measured["chair_s"] = 0.6
    assert verify(tmp_path)[0].differences == ["chair_s is 0.6, the manifest says 0.5"]
    weights = tmp_path / "responder-d" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    (tmp_path / "responder-d" / "more.txt").write_text("x")
    assert verify(tmp_path)[0].differences == ["model.safetensors has another hash", "more.txt is not in the manifest"]
