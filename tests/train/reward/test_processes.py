"""A reward's training under the launcher: several processes, DeepSpeed, and a stop in the middle."""

import pytest
from prefmill.train.events import METRICS, MetricsFile
from prefmill.train.reward.training import train_reward

from .conftest import ASPECTS

SPLIT = 0.19
"""Holds out four of the twelve prompts: eight are two whole batches."""


@pytest.fixture(scope="module")
def alone(compared_run, reward_settings, train_here, tmp_path_factory):
    """The lines of four steps of one process, which the others are held against."""
    output = tmp_path_factory.mktemp("alone") / "output"
    train_here(compared_run, output, reward_settings(max_steps=4, validation_share=SPLIT))
    return MetricsFile(output / METRICS).read()


def _losses(lines):
    return [(line["step"], line["loss"], line["margin"], line.get("eval_loss", 0.0)) for line in lines]


def _require_equal(lines, others, tolerance):
    assert [line[0] for line in _losses(lines)] == [1, 2, 3, 4] == [line[0] for line in _losses(others)]
    for one, other in zip(_losses(lines), _losses(others), strict=True):
        assert one == pytest.approx(other, abs=tolerance)
    assert any(line.get("eval_loss") for line in lines)


def test_two_processes_under_zero_2_learn_what_one_learns(alone, compared_run, reward_settings, tmp_path):
    """Two processes of two prompts each take the steps of one with four."""
    config = reward_settings(max_steps=4, validation_share=SPLIT, batch_size=2, processes=2, zero_stage=2)
    manifest = train_reward(compared_run, tmp_path / "output", config)
    assert manifest.backend.processes == 2
    assert manifest.backend.engine == "deepspeed.runtime.engine.DeepSpeedEngine"
    _require_equal(MetricsFile(tmp_path / "output" / METRICS).read(), alone, 1e-5)


def test_a_stopped_training_continues_to_the_same_numbers(alone, compared_run, reward_settings, tmp_path):
    output = tmp_path / "output"

    def stop(event):
        if event.kind == "step" and event.step == 3:
            raise KeyboardInterrupt

    config = reward_settings(max_steps=4, validation_share=SPLIT)
    with pytest.raises(KeyboardInterrupt):
        train_reward(compared_run, output, config, stop)
    manifest = train_reward(compared_run, output, config)
    _require_equal(MetricsFile(output / METRICS).read(), alone, 1e-6)
    assert sorted(path.name for path in (output / "reward").iterdir() if path.suffix == ".safetensors") == [
        "model.safetensors"
    ]
    said = []
    assert train_reward(compared_run, output, config, said.append) == manifest
    assert "already trained" in said[-1].message
    assert ASPECTS[0] == manifest.config.aspects[0]
