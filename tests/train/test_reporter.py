"""What a line of metrics.jsonl tells of time and money, and a warning's way to the user and into the manifest."""

import pytest
from prefmill.train import watch
from prefmill.train.events import MetricsFile
from prefmill.train.launch import train


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
