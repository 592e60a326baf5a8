"""What tests of `prefmill score` share: one call, and small images that differ."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prefmill.cli.score import score_command

MODELS = ["imagereward=random:image-reward", "clip=random:clip", "blip=random:blip", "aesthetic=random:aesthetic"]


def _noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def _score(images, to, scorer="imagereward", prompt=None, prompts=None, models=MODELS, **options) -> list[Any]:
    chosen = [model for model in models if model.split("=")[0] in scorer]
    arguments = {"sheet": None, "batch_size": 3, "device": "cpu", "dtype": "auto", "as_json": True, **options}
    score_command(Path(images), prompt, prompts, scorer, Path(to), chosen, **arguments)
    return json.loads(Path(to).read_text(encoding="utf-8")) if str(to).endswith(".json") else []


@pytest.fixture(scope="session")
def noise():
    """A small image that differs from those of other seeds."""
    return _noise


@pytest.fixture(scope="session")
def score():
    """Score into a table with random checkpoints; returns its rows where it is .json."""
    return _score
