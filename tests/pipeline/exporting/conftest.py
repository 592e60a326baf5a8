"""A small run with everything an export says of a row: prompts, images, answers, scores and pairs."""

import pytest
from prefmill.pipeline.records import Candidate, Instruction, Pair, Prompt, Response, Score, Selection
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

PROMPTS = 12
EVIL = "<script>alert(1)</script> <image> \x1b[31mred\x1b[0m | `x` ünï"
MANIFEST = {"complete": True, "inputs": 1, "outputs": 1, "rejects": {}, "models": ["m@1"], "seconds": 1.0, "cost": None}


@pytest.fixture(scope="session")
def told(tmp_path_factory, picture):
    """Twelve prompts, an image each (PNG, JPEG or WebP), answers of `a` and `b`, pairs; the second text is evil."""
    run = Run(tmp_path_factory.mktemp("told") / "run")
    numbers = range(PROMPTS)
    answers = {
        name: [Response(f"{name}{n}", f"i{n}", f"q{n}", f"model-{name}", f"answer {name}{n}") for n in numbers]
        for name in "ab"
    }
    formats = ("PNG", "JPEG", "WEBP")
    rows = {
        "prompts": [
            Prompt(f"p{n}", n + 1, EVIL if n == 1 else f"prompt {n}", f"s{n}", "<b>topic</b>") for n in numbers
        ],
        "candidates": [
            Candidate(
                f"i{n}", f"p{n}", 8, 6, picture(n, format=formats[n % 3]), "draws@1", "../../etc/x", n, 5.0 + n % 2, 16
            )
            for n in numbers
        ],
        "image_scores": [Score(f"i{n}", "reward@1", n / 4) for n in numbers],
        "selections": [Selection(f"p{n}", f"i{n}", n / 4) for n in numbers],
        "instructions": [Instruction(f"q{n}", f"i{n}", f"What is {n}?", "field") for n in numbers],
        "responses-a": answers["a"],
        "responses-b": answers["b"],
        "response_scores": [Score(f"{name}{n}", "judge@1", n + (name == "a") / 2) for name in "ab" for n in numbers],
        "pairs": [
            Pair(
                f"x{n}",
                f"i{n}",
                EVIL if n == 1 else f"What is {n}?",
                f"chosen {n}",
                f"rejected {n}",
                f"a{n}",
                f"b{n}",
                0.5,
            )
            for n in numbers
        ],
    }
    for name, records in rows.items():
        (run.folder / name).mkdir(parents=True)
        write_shard(run.folder / name, 0, len(records), type(records[0]), records, Footer("w"))
        config = {"model": "/home/somebody/models/m" if name == "candidates" else "owner/model"}
        run.write_manifest(name, {**MANIFEST, "stage": name, "config": config, "notices": []})
    return run
