"""What is drawn of a training's numbers, when, and that a picture's failure is no training's."""

import builtins

import numpy as np
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.train import curves
from prefmill.train.adapter_training import train
from prefmill.train.curves import CURVES, PANELS, draw, write_curves
from prefmill.train.events import MetricsFile

LINES = [
    {
        **{"step": step, "steps": 3, "seconds": 1.0, "loss": 0.7 - step / 10},
        **{"rewards/margins": step / 5, "rewards/accuracies": 1.0},
        **{"logps/chosen": -20.0 - step, "logps/rejected": -30.0 - 2 * step},
        **({"eval_loss": 0.65} if step == 2 else {}),
    }
    for step in (1, 2, 3)
]


def values(data):
    return np.asarray(data).tolist()


def test_every_number_is_where_it_belongs():
    panels = {axes.get_title(): axes for axes in draw(LINES).axes}
    assert list(panels) == list(PANELS) == ["loss", "reward margin", "accuracy", "log-probability"]
    drawn = {
        title: {line.get_label(): (values(line.get_xdata()), values(line.get_ydata())) for line in axes.lines}
        for title, axes in panels.items()
    }
    assert drawn["loss"]["loss"] == ([1, 2, 3], pytest.approx([0.6, 0.5, 0.4]))
    assert drawn["loss"]["eval_loss"] == ([2], [0.65])
    assert drawn["reward margin"] == {"rewards/margins": ([1, 2, 3], [0.2, 0.4, 0.6])}
    assert drawn["accuracy"] == {"rewards/accuracies": ([1, 2, 3], [1, 1, 1])}
    assert drawn["log-probability"]["logps/chosen"] == ([1, 2, 3], [-21, -22, -23])
    assert drawn["log-probability"]["logps/rejected"] == ([1, 2, 3], [-32, -34, -36])
    dashed = [line for line in panels["log-probability"].lines if line.get_linestyle() == "--"]
    assert [values(line.get_ydata()) for line in dashed] == [[-21, -21], [-32, -32]]


def test_losses_without_log_probabilities_are_drawn():
    bare = [{"step": 1, "steps": 1, "seconds": 1.0, "loss": 0.5}]
    assert [len(axes.lines) for axes in draw(bare).axes] == [1, 0, 0, 0]


def write_metrics(folder):
    for line in LINES:
        MetricsFile(folder / "metrics.jsonl").append(line)


def test_picture(tmp_path):
    assert write_curves(tmp_path) is None
    assert not (tmp_path / CURVES).exists(), "there is nothing to draw"
    write_metrics(tmp_path)
    assert write_curves(tmp_path) is None
    with Image.open(tmp_path / CURVES) as image:
        assert image.size == (1320, 840)
        assert image.format == "PNG"
        assert len(set(image.convert("RGB").tobytes())) > 100  # more than white and the axes
    assert sorted(path.name for path in tmp_path.iterdir()) == [CURVES, "metrics.jsonl"]


def test_what_cannot_be_drawn_is_said(tmp_path, monkeypatch):
    write_metrics(tmp_path)
    monkeypatch.setattr(curves, "draw", lambda lines, panels: 1 / 0)
    assert write_curves(tmp_path) == "curves.png was not drawn: ZeroDivisionError: division by zero"
    monkeypatch.undo()
    real = builtins.__import__

    def missing(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert write_curves(tmp_path) == "curves.png was not drawn: ImportError: No module named 'matplotlib'"
    monkeypatch.undo()
    (tmp_path / CURVES).mkdir()
    with pytest.raises(PrefmillError, match=CURVES):
        write_curves(tmp_path)


def test_a_training_is_drawn_when_it_is_stopped_and_when_it_ends(run_folder, settings, tmp_path):
    config = settings(zero_stage=0, backend="shared", max_steps=12, save_every=1)

    def stop(event):
        if event.kind == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_folder, tmp_path, config, stop)
    assert (tmp_path / CURVES).exists()
    (tmp_path / CURVES).unlink()
    manifest = train(run_folder, tmp_path, config)
    assert (tmp_path / CURVES).exists()
    assert not any(CURVES in note for note in manifest.backend.notes)
