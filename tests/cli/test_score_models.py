"""Scoring itself: bad images and scores are problems of their rows, and few pixels are in memory at a time."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image


def test_an_image_that_would_become_huge_is_a_problem_of_its_row(score, noise, tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    Image.new("1", (2_000_000, 2)).save(place / "line.png")  # 224 times as wide when its height is 224
    noise(0).save(place / "a.png")
    rows = score(place, tmp_path / "out.json", "imagereward,blip", prompt="a cat")
    assert rows[0]["problem"] is None
    assert rows[1]["problem"].startswith("image too_elongated: 2000000 x 2")
    assert rows[0]["imagereward"] is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_a_problem_of_its_row(value, score, noise, tmp_path, monkeypatch):
    def odd(pixels, prompts):
        values = torch.tensor([value if prompt == "odd" else 1.5 for prompt in prompts])
        return SimpleNamespace(values=values, truncated=[False] * len(prompts))

    engine = SimpleNamespace(preprocess=lambda images: torch.zeros(1, 3, 2, 2), score=odd, key="fake")
    monkeypatch.setattr("prefmill.engine.scorers.choice.load_image_scorer", lambda *_: engine)
    noise(0).save(tmp_path / "a.png")
    table = [{"image": "a.png", "prompt": prompt} for prompt in ("even", "odd", "even")]
    (tmp_path / "rows.json").write_text(json.dumps(table))
    rows = score(tmp_path / "rows.json", tmp_path / "out.json", models=[])
    assert [row["imagereward"] for row in rows] == [1.5, None, 1.5]
    assert [row["problem"] for row in rows] == [None, f"imagereward scored {value}", None]


MEASURE = """
import json, resource, sys
from pathlib import Path
from types import SimpleNamespace
import torch
from prefmill.cli.score import score_command
from prefmill.engine import images
from prefmill.engine.image_inputs import ImagePreprocessing
from prefmill.engine.scorers import choice

def score(pixels, prompts):
    return SimpleNamespace(values=pixels.mean((1, 2, 3)), truncated=[False] * len(prompts))

engine = SimpleNamespace(preprocess=ImagePreprocessing(224).pixels, score=score, key="the mean")
choice.load_image_scorer = lambda *_: engine  # so that no model's memory is measured
images.BUDGET.limit = int(sys.argv[2])
peaks = []
for name in ("small", "large"):
    folder = Path(sys.argv[1]) / name
    score_command(folder, "a cat", None, "imagereward", folder.with_suffix(".json"), [], None, 16, "cpu", "auto", True)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps(peaks))
"""


def test_large_images_are_not_all_in_memory_at_once(noise, tmp_path):
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    for number in range(4):
        noise(number).save(tmp_path / f"small/{number}.png")
    for number in range(6):
        Image.new("1", (4_000, 4_000), 1).save(tmp_path / f"large/{number}.png")
    command = [sys.executable, "-c", MEASURE, str(tmp_path), "16000000"]
    exact = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}  # what is freed is given back, and measured as such
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=exact)
    small, large = json.loads(result.stdout.splitlines()[-1])
    # one image takes 16 MB packed and 64 MB as RGB; four threads 320, and six kept for their batch 384
    assert large - small < 180, f"{large - small:.0f} MiB"
    scores = [row["imagereward"] for row in json.loads((tmp_path / "large.json").read_text())]
    assert scores == pytest.approx([scores[0]] * 6)
    assert scores[0] > 1  # white
