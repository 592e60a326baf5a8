"""A small run whose every row is known, and viewers of runs that are read to their end."""

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prefmill.engine.images import encode_image
from prefmill.pipeline.records import (
    Annotation,
    Candidate,
    ImagePreference,
    Instruction,
    Pair,
    Prompt,
    Reject,
    Response,
    Score,
    Selection,
    content_id,
)
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

pytest.importorskip("starlette", reason="the viewer's packages are not installed")

EVIL = '<img src=x onerror="window.owned=1"><script>window.owned=1</script> \x1b[31mred \u202egnp.exe\u200b =1+1'
MANIFEST = {"fingerprint": "f", "complete": True, "rejects": {}, "models": ["m"], "seconds": 1.0, "cost": None}


def picture(value, side=16):
    return encode_image(np.full((side, side, 3), value, np.uint8))


def write_stage(folder, name, rows, rejects=(), start=0, stop=None, **manifest):
    """One more shard of a stage, and its manifest."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    stop = start + max(1, len(rows)) if stop is None else stop
    shard = write_shard(folder / name, start, stop, type(rows[0]), rows, Footer("w", tuple(rejects)))
    content = {**MANIFEST, "config": {}, "notices": [], "inputs": stop, "outputs": len(rows), **manifest}
    Run(folder).write_manifest(name, content)
    return shard


def rows_of(numbers):
    """All rows of some prompts: prompt n has pictures of guidance 3 and 5, the second one picked where n is odd."""
    rows = {name: [] for name in STAGES}
    for n in numbers:
        ids = {name: content_id(name, n) for name in ("prompt", "question", "one", "two", "pair")}
        images = [content_id("image", n, scale) for scale in (3.0, 5.0)]
        best = images[n % 2]
        text = EVIL if n == 3 else f"prompt {n} about a {'kite' if n % 3 else 'BOAT'}"
        rows["prompts"].append(Prompt(ids["prompt"], n + 1, text, f"made:{n}", topic="toys"))
        for image, scale in zip(images, (3.0, 5.0), strict=True):
            rows["candidates"].append(
                Candidate(image, ids["prompt"], 16, 16, picture(40 * n % 256), "sd@1", guidance=scale, seed=2**62 + n)
            )
            rows["image_scores"].append(Score(image, "reward@1", n + scale / 10))
        rows["selections"].append(Selection(ids["prompt"], best, n + 0.5, 0.2))
        rows["instructions"].append(Instruction(ids["question"], best, f"what is {n}?", "template"))
        rows["responses-a"].append(Response(ids["one"], best, ids["question"], "llava@1", f"a says {n} things"))
        rows["responses-b"].append(
            Response(ids["two"], best, ids["question"], "qwen@1", EVIL if n == 3 else f"b says {n} words")
        )
        for answer, value in ((ids["one"], 0.5 + n / 10), (ids["two"], 0.5)):
            rows["response_scores"].append(Score(answer, "judge@1", value, False, {"honesty": value / 2}))
        chosen, rejected = (ids["one"], ids["two"]) if n % 4 else (ids["two"], ids["one"])
        if n % 5:
            rows["pairs"].append(
                Pair(ids["pair"], best, f"what is {n}?", "c" if n != 3 else "=SUM(A1)", EVIL, chosen, rejected, n / 10)
            )
    return rows


def rejects_of(numbers):
    return [Reject(content_id("question", n), "pairs", "too_few_answers", EVIL) for n in numbers if n % 5 == 0]


STAGES = ("prompts", "candidates", "image_scores", "selections", "instructions", "responses-a", "responses-b")
STAGES = (*STAGES, "response_scores", "pairs")


def write_run(folder, numbers, **manifest):
    """Write (or go on with) a run of prompts 0, 1, ...; `numbers` is a range."""
    for name, rows in rows_of(numbers).items():
        if rows:
            rejects = rejects_of(numbers) if name == "pairs" else ()
            write_stage(folder, name, rows, rejects, numbers.start * 4, numbers.stop * 4, **manifest)
    return Run(folder)


@pytest.fixture
def run(tmp_path):
    """Twelve prompts; those whose number five divides have no pair."""
    return write_run(tmp_path / "known", range(12))


@contextmanager
def viewed(run, **options):
    """A client of a viewer of a run, all of which has been read."""
    from prefmill.pipeline.viewing.server import Viewer, create_app
    from starlette.testclient import TestClient

    viewer = Viewer(run, seconds=0.02, **options)
    client: Any = TestClient(create_app(viewer), base_url="http://127.0.0.1:8765")
    with viewer.watcher.running():
        viewer.watcher.wait(10)
        for _ in range(500):
            if viewer.index.is_read:
                break
            viewer.watcher._stop.wait(0.01)
        client.viewer = viewer
        yield client


@pytest.fixture
def made():
    """What tests of the viewer build runs with."""
    return SimpleNamespace(
        EVIL=EVIL,
        picture=picture,
        stage=write_stage,
        run=write_run,
        viewed=viewed,
        records=SimpleNamespace(Annotation=Annotation, Candidate=Candidate, ImagePreference=ImagePreference),
    )
