"""Settings and the conditions around a training: what is refused, and with which advice."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.train.generator.settings import GeneratorTrainingConfig
from prefmill.train.launch_settings import changed_settings
from prefmill.train.settings import DPOTrainingConfig
from prefmill.train.zero2 import ENGINE_CLASS, require_compiler, require_engine, zero2_config
from pydantic import ValidationError


def test_defaults_are_the_published_recipe():
    config = DPOTrainingConfig()
    assert (config.lora_rank, config.lora_alpha, config.lora_dropout) == (128, 256, 0.05)
    assert (config.beta, config.loss, config.learning_rate) == (0.1, "sigmoid", 1e-5)
    assert (config.schedule, config.warmup_ratio, config.epochs) == ("cosine", 0.03, 2)
    assert (config.batch_size, config.accumulation, config.zero_stage) == (1, 4, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lora_rnak": 8},
        {"beta": 0},
        {"loss": "exo_pair"},
        {"loss": "dpo"},
        {"warmup_ratio": 1},
        {"zero_stage": 3},
        {"epochs": 0},
        {"save_every": 10, "log_every": 3},
        {"eval_share": 0.1, "eval_every": 10, "log_every": 3, "save_every": 3},
        {"eval_share": 0.6},
        {"backend": "shared", "anchor_margin": 0.1},
        {"backend": "shared", "image_weight": 1, "image_negative": "blur"},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        DPOTrainingConfig.model_validate(wrong)


def test_a_generators_training_refuses_what_it_would_not_do():
    with pytest.raises(ValidationError, match="leave report_to out"):
        GeneratorTrainingConfig(report_to=("tensorboard",))


def test_only_settings_that_touch_no_weight_may_change():
    now = DPOTrainingConfig(save_every=7, beta=0.2).model_dump()
    assert changed_settings(DPOTrainingConfig().model_dump(), now) == ["beta was 0.1, now 0.2"]


def test_missing_compiler_is_said_before_deepspeed_meets_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(PrefmillError, match="there is no C\\+\\+ compiler") as caught:
        require_compiler()
    assert "zero_stage=0" in caught.value.fix
    monkeypatch.setenv("CXX", "/bin/sh")
    require_compiler()


def test_any_other_engine_is_refused_at_stage_two():
    assert require_engine(torch.nn.Linear(1, 1), 0) == "torch.nn.modules.linear.Linear"
    with pytest.raises(PrefmillError, match="Linear instead of DeepSpeed's engine"):
        require_engine(torch.nn.Linear(1, 1), 2)
    assert zero2_config()["zero_optimization"]["stage"] == 2
    assert ENGINE_CLASS.endswith(".DeepSpeedEngine")
