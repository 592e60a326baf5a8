"""Curves for other programs: what TensorBoard reads back, where it all lies, and that nothing leaves the machine."""

import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.train import extras
from prefmill.train.adapter_training import train
from prefmill.train.checkpoints import newest_complete
from prefmill.train.launch_settings import changed_settings
from prefmill.train.tracking import tracking_environment

KEYS = {"train/loss": "loss", "train/rewards/margins": "rewards/margins", "train/logps/chosen": "logps/chosen"}


def test_tensorboard_reads_every_step_once_after_a_stop(run_folder, settings, tmp_path):
    """One run in one folder: steps that were thrown away by the stop and made again are not there twice."""
    pytest.importorskip("tensorboard", reason="needs the extra `tracking`: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = settings(backend="shared", zero_stage=0, max_steps=30, save_every=5, report_to=("tensorboard",))

    def interrupt(event):
        if event.kind == "step" and event.step >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_folder, tmp_path, config, interrupt)
    stopped = newest_complete(tmp_path / "checkpoints")
    assert stopped is not None
    assert 0 < stopped.step < 30
    train(run_folder, tmp_path, config)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for tag, key in KEYS.items():
        found = [(event.step, event.value) for event in read.Scalars(tag)]
        assert [step for step, _ in found] == list(range(1, 31))
        assert [value for _, value in found] == pytest.approx([line[key] for line in lines], rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "package"),
    [
        ({"report_to": ("tensorboard", "wandb")}, "wandb"),
        ({"report_to": ("trackio",)}, "trackio"),
        ({"base_bits": 4}, "bitsandbytes"),
    ],
)
def test_absent_library_is_said_before_anything_starts(run_folder, settings, tmp_path, monkeypatch, changes, package):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(PrefmillError, match=f"needs {package}, which is not installed") as caught:
        train(run_folder, tmp_path, settings(**changes))
    assert caught.value.fix.startswith(f"pip install {package}")
    assert not (tmp_path / "train.log").exists()


def test_nothing_leaves_the_machine_unless_the_environment_says_so(settings, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_RESUME"):
        monkeypatch.delenv(name, raising=False)
    assert tracking_environment(settings(), tmp_path) == {}
    config = settings(report_to=("wandb", "trackio"))
    told = tracking_environment(config, tmp_path)
    assert (told["WANDB_MODE"], told["WANDB_DIR"]) == ("offline", str(tmp_path))
    assert told["TRACKIO_DIR"] == str(tmp_path / "trackio")
    assert told["WANDB_RUN_ID"] == tracking_environment(config, tmp_path)["WANDB_RUN_ID"], "continued runs are one"
    assert told["WANDB_RUN_ID"] != tracking_environment(config, tmp_path / "other")["WANDB_RUN_ID"]
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert tracking_environment(config, tmp_path)["WANDB_MODE"] == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracking_environment(config, tmp_path)["WANDB_MODE"] == "offline"


def test_it_touches_no_weight(settings):
    assert changed_settings(settings().model_dump(), settings(report_to=("wandb",)).model_dump()) == []
