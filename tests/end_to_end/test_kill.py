"""SIGKILL at random instants: whatever is left is valid, and continuing ends in byte-identical records."""

import hashlib
import json
import os
import random
import time
from dataclasses import asdict

from prefmill.cli.run import execute
from prefmill.engine.tiny.catalogue import build_named
from prefmill.pipeline.records import Candidate, Instruction, Pair, Prompt, Response, Score, Selection
from prefmill.pipeline.store import Run
from prefmill.recipes.catalogue import tiny
from prefmill.recipes.settings import override

KILLS, KILLS_PER_RUN = 20, 4
PROMPTS = [
    f"scene {number}: a {color} {thing}"
    for number, (color, thing) in enumerate(
        [("red", "kite"), ("blue", "boat"), ("green", "car"), ("white", "cup")],
        start=1,
    )
]
STAGES = {
    "prompts": Prompt,
    "candidates": Candidate,
    "image_scores": Score,
    "selections": Selection,
    "instructions": Instruction,
    "responses-a": Response,
    "responses-b": Response,
    "responses-c": Response,
    "response_scores": Score,
    "pairs": Pair,
}


def content(folder):
    """A digest of every stage's records, images and rejects, in order."""
    run, digests = Run.open(folder), {}
    for name, record in STAGES.items():
        digest = hashlib.sha256()
        dataset = run.dataset(name, record)
        for row in [*dataset, *dataset.rejects()]:
            digest.update(json.dumps(asdict(row), default=lambda image: image.hex()).encode())
        digests[name] = digest.hexdigest()
    return digests


def pair_lines(folder):
    return "\n".join(json.dumps(asdict(pair)) for pair in Run.open(folder).dataset("pairs", Pair)).encode()


def test_twenty_random_kills_end_in_identical_records(forks, tmp_path, cache, capsys):
    for name in ("text-to-image", "image-reward", "responder-a", "responder-b", "responder-c", "text-reward"):
        build_named(name)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    settings = [
        f"prompts.path={tmp_path / 'prompts.txt'}",
        "generate.batch_size=1",
        "generate.steps=1",
        "score.batch_size=4",
        "judge.batch_size=1",
        "executor.commit_seconds=0",
        "train=null",
        *[f"responders.{number}.batch_size=2" for number in range(3)],
        *[f"responders.{number}.sampling.max_new_tokens=12" for number in range(3)],
    ]
    config = override(tiny(), settings)

    def start(folder):
        process = forks.Process(target=execute, args=(folder, config, None, True))
        process.start()
        return process

    warm_up = forks.Process(target=os.getpid)  # the first process waits for the imports
    warm_up.start()
    warm_up.join()
    undisturbed = tmp_path / "undisturbed"
    began = time.monotonic()
    whole = start(undisturbed)
    whole.join()
    duration = time.monotonic() - began
    assert whole.exitcode == 0
    expected, lines = content(undisturbed), pair_lines(undisturbed)
    assert lines.count(b"\n") >= 2

    draw, kills, runs, report = random.Random(20261121), 0, 0, []
    while kills < KILLS:
        folder = tmp_path / f"run-{runs}"
        runs += 1
        for _ in range(KILLS_PER_RUN):
            process = start(folder)
            delay = draw.uniform(0.02, 0.5) * duration
            process.join(delay)
            if not process.is_alive():
                break
            process.kill()
            process.join()
            kills += 1
            done = {name: len(Run(folder).dataset(name, record)) for name, record in STAGES.items()}
            report.append(f"kill {kills} after {delay:.2f} s: {json.dumps(done)}")
        process = start(folder)
        process.join()
        assert process.exitcode == 0
        assert pair_lines(folder) == lines
        assert content(folder) == expected
    if os.environ.get("PREFMILL_SHOW_KILLS"):
        with capsys.disabled():
            print("\n" + "\n".join(report) + f"\n{kills} kills in {runs} runs; pairs identical {runs} of {runs} times")
