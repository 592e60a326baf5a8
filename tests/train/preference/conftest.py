"""Jobs without a launcher, and a tiny LLaVA in float64 whose adapter already acts."""

import time
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from peft import get_peft_model
from prefmill.pipeline.records import Pair
from prefmill.train.adapter import lora_config, lora_targets
from prefmill.train.collate import PairCollator
from prefmill.train.data import RunImages, load_pairs
from prefmill.train.job import TrainingJob
from prefmill.train.preference.layout import PairTokens
from prefmill.train.preference.scorer import load_scorer
from prefmill.train.settings import DPOTrainingConfig
from transformers import AutoProcessor


@pytest.fixture(scope="session")
def collator(model_folder):
    return PairCollator(AutoProcessor.from_pretrained(model_folder))


@pytest.fixture
def make_job(run_folder, model_folder, settings, collator, tmp_path, monkeypatch):
    # the launcher tells its workers the same: nobody is called home
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)

    def make(name="output", precision: Any = "float32", pairs: list[Pair] | None = None, **changes):
        config: DPOTrainingConfig = settings(zero_stage=0, backend="shared", **changes)
        output: Path = tmp_path / name
        output.mkdir(exist_ok=True)
        images = RunImages(run_folder)
        pairs = pairs or load_pairs(run_folder)
        return TrainingJob(
            config, model_folder, collator, pairs, images, output, None, "cpu", precision, time.monotonic()
        )

    return make


@pytest.fixture(scope="module")
def policy(model_folder):
    """A scorer in float64 in an adapter that is not zero."""
    model = load_scorer(model_folder, torch.float32).double()
    config = DPOTrainingConfig(lora_rank=4, lora_alpha=8, lora_dropout=0)
    adapted = get_peft_model(model, lora_config(config, lora_targets(model))).eval()
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=stream, dtype=weight.dtype))
    return adapted


@pytest.fixture(scope="module")
def tokens(policy):
    """Three pairs of random tokens around an image of 16: one with answers of one token, one with skipped tokens."""
    stream = torch.Generator().manual_seed(1)

    def draw(count):
        return torch.randint(10, 900, (count,), generator=stream).tolist()

    image = [policy.config.image_token_id] * 16
    shapes = [(3, 5, 9, 0, 0), (2, 8, 3, 1, 0), (5, 1, 1, 0, 0)]
    return [
        PairTokens([1, *draw(before), *image, *draw(4)], draw(chosen), draw(rejected), *skipped)
        for before, chosen, rejected, *skipped in shapes
    ]
