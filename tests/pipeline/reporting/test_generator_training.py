"""A generator's training is shown by its first and last samples and the curves of its numbers."""

import json

import numpy as np
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.report import write_report
from prefmill.pipeline.reporting.generator_training import WIDEST, generator_trainings
from prefmill.pipeline.store import Run


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "tuned"
    (folder / "samples").mkdir(parents=True)
    for step in (0, 50, 100):
        Image.fromarray(np.full((30, 2 * WIDEST, 3), step, np.uint8)).save(folder / f"samples/step-{step}.png")
    (folder / "samples/notes.txt").write_text("x")
    lines = [{"step": n, "reward": n / 2, "kl": 0.1, "seconds_per_step": 3.0, "note": "x"} for n in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "rew')
    (tmp_path / "run.yaml").write_text("{}")
    return Run(tmp_path)


def test_first_and_last_samples_and_the_curves_are_found(run):
    (found,) = generator_trainings(run)
    assert found["name"] == "tuned"
    assert [step for step, _ in found["grids"]] == [0, 100]
    assert all(grid.startswith("data:image/jpeg;base64,") and len(grid) < 30_000 for _, grid in found["grids"])
    assert list(found["curves"]) == ["reward", "kl"]
    assert found["curves"]["reward"]["lines"][0]["points"] == "0.0,160.0 300.0,80.0 600.0,0.0"
    page = write_report(run).read_text()
    assert page.index("before, step 0") < page.index("step 100") < page.index("<b>reward</b>")


def test_damage_is_named_and_a_bad_picture_costs_nothing_but_itself(run):
    (run.folder / "tuned/samples/step-0.png").write_bytes(b"no picture")
    (found,) = generator_trainings(run)
    assert found["grids"][0] == (0, None)
    (run.folder / "tuned/metrics.jsonl").write_text("[1}\n")
    with pytest.raises(PrefmillError, match=r"tuned/metrics.jsonl is damaged"):
        generator_trainings(run)
