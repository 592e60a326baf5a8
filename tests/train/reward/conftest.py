"""A tiny BLIP, and a run whose prompts have images with preferences by two aspects, made once."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from prefmill.engine.images import encode_image
from prefmill.engine.quiet import quiet_loading
from prefmill.engine.tiny.configs import blip_configs
from prefmill.engine.tiny.tokenizers import bert_tokenizer
from prefmill.engine.tiny.weights import randomize
from prefmill.pipeline.records import Candidate, ImagePreference, content_id
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from prefmill.train.manifest import PLAN, write
from prefmill.train.reward.data import load_preferences, preferences_digest
from prefmill.train.reward.manifest import RewardManifest, RewardPlan, read_reward_manifest
from prefmill.train.reward.settings import RewardTrainingConfig
from prefmill.train.reward.work import work
from transformers import BlipConfig, BlipForImageTextRetrieval

os.environ["OMP_NUM_THREADS"] = "1"
ASPECTS = ("overall", "aesthetic")
WORDS = ("red", "blue", "green", "small", "old", "bright", "round", "wooden", "tall", "quiet", "warm", "plain")


@pytest.fixture(scope="session")
def blip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BLIP's classes at width 16 with three layers each, images of 32 pixels."""
    folder = tmp_path_factory.mktemp("blip") / "matching"
    tokenizer = bert_tokenizer()
    vision, text = blip_configs(tokenizer, 16, image_size=32, patch_size=16, layers=3)
    model = BlipForImageTextRetrieval(BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=16))
    randomize(model, 3)
    with quiet_loading():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def write_preferences(
    folder: Path, prompts: int = 12, aspects: tuple[str, ...] = ASPECTS, *, generators: int = 2, lost: int = -1
) -> Path:
    """Write a run: `overall` prefers the brighter of a prompt's three images, other aspects the redder.

    The images lie in a folder for each generator. Image number `lost` is left out.
    """
    candidates: list[list[Candidate]] = [[] for _ in range(generators)]
    preferences = []
    for number in range(prompts):
        prompt_id, text = content_id("prompt", number), f"a {WORDS[number % len(WORDS)]} house"
        shades = np.random.default_rng(number).permutation(3)
        images = [content_id("candidate", number, place) for place in range(3)]
        for place, image_id in enumerate(images):
            pixels = np.random.default_rng([number, place]).integers(0, 100, (32, 40, 3), dtype=np.uint8)
            pixels += np.array([50 * shades[place], 70 * place, 10], dtype=np.uint8)
            if number * 3 + place != lost:
                row = Candidate(image_id, prompt_id, 40, 32, encode_image(pixels), model="micro@0")
                candidates[place % generators].append(row)
        for aspect in aspects:
            order = np.arange(3) if aspect == "overall" else shades
            for chosen in range(3):
                for rejected in range(3):
                    if order[chosen] > order[rejected]:
                        sides = images[chosen], images[rejected]
                        margin = float(order[chosen] - order[rejected])
                        key = content_id("preference", aspect, *sides)
                        preferences.append(ImagePreference(key, prompt_id, text, aspect, *sides, margin))
    names = [f"candidates-{number}" for number in range(generators)] if generators > 1 else ["candidates"]
    stages = [(name, Candidate, rows) for name, rows in zip(names, candidates, strict=True)]
    with Run.writing(folder) as run:
        for name, kind, records in [*stages, ("image_preferences", ImagePreference, preferences)]:
            (run.folder / name).mkdir()
            write_shard(run.folder / name, 0, len(records), kind, records, Footer(work="test"))
            run.write_manifest(name, {"stage": name, "fingerprint": f"{name}-0123", "models": [f"{name}-model@4567"]})
    return folder


@pytest.fixture(scope="session")
def compared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_preferences(tmp_path_factory.mktemp("compared") / "run")


@pytest.fixture(scope="session")
def reward_settings(blip_folder: Path) -> Callable[..., RewardTrainingConfig]:
    """Settings of a short training whose losses move: 8 steps, a high learning rate."""

    def make(**changes: object) -> RewardTrainingConfig:
        values: dict[str, object] = {
            "model": str(blip_folder),
            "learning_rate": 3e-3,
            "max_steps": 8,
            "batch_size": 4,
            "validation_share": 0.25,
            "evaluations_per_epoch": 1,
            "device": "cpu",
            "zero_stage": 0,
        }
        return RewardTrainingConfig.model_validate({**values, **changes})

    return make


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def train_here() -> Callable[[Path, Path, RewardTrainingConfig], RewardManifest]:
    """A training in this process, without the launcher: what a worker does."""

    def train(run: Path, output: Path, config: RewardTrainingConfig) -> RewardManifest:
        torch.set_num_threads(1)
        output.mkdir(parents=True, exist_ok=True)
        preferences = load_preferences(run, config.aspects)
        digest = preferences_digest(preferences)
        write(output / PLAN, RewardPlan(run=str(run), examples=1, examples_digest=digest, config=config))
        work(output, time.monotonic())
        manifest = read_reward_manifest(output)
        assert manifest is not None
        return manifest

    return train


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    compared_run: Path,
    reward_settings: Callable[..., RewardTrainingConfig],
    train_here: Callable[[Path, Path, RewardTrainingConfig], RewardManifest],
) -> Path:
    """The output of a training with a head for each aspect, its features left in a cache beside it."""
    output = tmp_path_factory.mktemp("trained") / "output"
    config = reward_settings(aspects=ASPECTS, heads="per_aspect", cache=str(output.parent / "cache"), batch_size=3)
    train_here(compared_run, output, config)
    return output
