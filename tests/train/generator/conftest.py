"""A tiny Stable Diffusion 3 that learns, a reward that is one linear layer, and a run of prompts with preferences."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prefmill.engine.image_inputs import ImagePreprocessing
from prefmill.engine.images import encode_image
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.runner import EagerRunner
from prefmill.engine.scorers.interface import ImageScorer
from prefmill.engine.tiny.image_models import build_text_to_image
from prefmill.pipeline.records import Candidate, ImagePreference, Prompt, content_id
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from prefmill.train.generator.job import GeneratorJob
from prefmill.train.generator.method import TuningTask
from prefmill.train.generator.policy import Policy
from prefmill.train.generator.preferences import load_image_pairs, load_prompts
from prefmill.train.generator.rewards import Reward
from prefmill.train.generator.settings import GeneratorTrainingConfig

WORDS = ("a red boat", "a blue tree", "two birds", "a house by the sea")
SIDE = 16


class LinearScorer(ImageScorer):
    """Scores pixels by a fixed linear layer; the prompts in `broken` score NaN."""

    key = "linear"

    def __init__(self, broken: tuple[str, ...] = ()) -> None:
        layer = torch.nn.Linear(3 * 8 * 8, 1)
        with torch.no_grad():
            weights = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(3))
            layer.weight.copy_(weights / 8)
            layer.bias.zero_()
        self.inputs, self.broken = ImagePreprocessing(8), broken
        pixels = {"pixels": Input((Dimension("batch", 1, 2, 8), 3, 8, 8))}
        network = Network("linear", layer, lambda layer, pixels: layer(pixels.flatten(1))[:, 0], pixels, ("scores",))
        self.runner = EagerRunner(network)

    def score_pixels(self, pixels, prompts):
        values = self.runner.run({"pixels": pixels})["scores"]
        flaw = torch.tensor([float("nan") if prompt in self.broken else 0.0 for prompt in prompts])
        return values + flaw, [False] * len(prompts)


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_text_to_image(tmp_path_factory.mktemp("generator") / "sd3", with_t5=False)


@pytest.fixture(scope="session")
def generator_settings(generator_folder: Path) -> Callable[..., GeneratorTrainingConfig]:
    """Settings of two images of 16 x 16 pixels a step, in three sampling steps."""

    def make(**changes: Any) -> GeneratorTrainingConfig:
        values: dict[str, Any] = {
            **{"model": str(generator_folder), "t5_tokens": 0, "width": SIDE, "height": SIDE, "sampling_steps": 3},
            **{"lora_rank": 2, "lora_alpha": 4, "learning_rate": 0.02, "guidance": 2.0, "steps": 4, "zero_stage": 0},
            **{"eval_prompts": 1, "eval_images": 2, "eval_steps": 2, "eval_every": 4, "device": "cpu"},
            **{"ema_every": 1, "ema_decay": 0.5},
            "reward": {"model": "random:image-reward"},
            "flow_dpo": {"batch_size": 2, "micro_batch": 1},
            "refl": {"batch_size": 2, "micro_batch": 1, "threshold": 5, "scale": 1},
        }
        for name, value in changes.items():
            values[name] = {**values[name], **value} if isinstance(value, dict) and name in values else value
        return GeneratorTrainingConfig.model_validate(values)

    return make


@pytest.fixture(scope="session")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four prompts with two images each, of which one is preferred; images say how they were drawn."""
    folder = tmp_path_factory.mktemp("runs") / "images"
    prompts = [Prompt(content_id("prompt", text), number + 1, text, "test") for number, text in enumerate(WORDS)]
    images, preferences = [], []
    random = np.random.default_rng(0)
    noise = "torch.randn float32, CPU generator seeded per image, [channels, height / f, width / f]"
    for prompt in prompts:
        pair = []
        for number in range(2):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            image_id = content_id("candidate", prompt.id, number)
            how = {"seed": 10 + number, "noise": noise}
            pair.append(Candidate(image_id, prompt.id, SIDE, SIDE, encode_image(pixels), model="tiny@0", **how))
        images += pair
        ids = (pair[0].id, pair[1].id)
        preference_id = content_id("image_preference", *ids)
        preferences.append(ImagePreference(preference_id, prompt.id, prompt.text, "overall", *ids, margin=1.0))
    with Run.writing(folder) as run:
        stages = [("prompts", Prompt, prompts), ("image_preferences", ImagePreference, preferences)]
        stages += [("candidates-a", Candidate, images[::2]), ("candidates-b", Candidate, images[1::2])]
        for name, kind, rows in stages:
            (run.folder / name).mkdir()
            write_shard(run.folder / name, 0, len(rows), kind, rows, Footer(work="test"))
            run.write_manifest(name, {"stage": name, "fingerprint": f"{name}-0123", "models": []})
    return folder


@pytest.fixture
def make_task(generator_folder: Path, image_run: Path) -> Callable[..., TuningTask]:
    """A task of one process, with the linear reward."""

    def make(config: GeneratorTrainingConfig, broken: tuple[str, ...] = ()) -> TuningTask:
        policy = Policy.load(config, generator_folder, torch.device("cpu"), torch.float32)
        pairs = load_image_pairs(image_run, "overall")
        return TuningTask(policy, config, load_prompts(image_run), Reward(LinearScorer(broken)), pairs)

    return make


@pytest.fixture
def make_job(generator_folder: Path, image_run: Path) -> Callable[..., GeneratorJob]:
    def make(config: GeneratorTrainingConfig, output: Path, resume: Any = None) -> GeneratorJob:
        pairs = load_image_pairs(image_run, "overall") if config.learns_from_preferences else []
        given = (config, generator_folder, image_run, load_prompts(image_run), pairs, output, resume)
        return GeneratorJob(*given, "cpu", "float32", time.monotonic())

    return make


def scattered(policy: Policy, scale: float = 0.2) -> None:
    """Give an adapter random weights, so that learner and reference differ."""
    draw = torch.Generator().manual_seed(1)
    policy.set_weights([torch.randn(each.shape, generator=draw) * scale for each in policy.parameters])
