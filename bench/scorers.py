"""Scorers measured: ImageReward against the image-reward package, and ArmoRM against one answer at a time.

    sh bench/scorers_peer_environment.sh /tmp/image-reward     # once
    python -m prefmill.bench.scorers --peer /tmp/image-reward/bin/python

All sides take turns in one run, round by round, with the same number of threads, from decoded 1024 x 1024 images in
memory. The claimed ratios are medians over rounds of CPU seconds with one thread: on a machine that nothing else uses
these are the wall seconds, and on a shared one they are still the work. Wall seconds stand beside them in the result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig

from ..engine.checkpoint import resolve_checkpoint
from ..engine.device import hardware_description
from ..engine.errors import PrefmillError
from ..engine.image_reward import ImageScorer
from ..engine.settings import EngineSettings
from ..engine.text import load_tokenizer
from ..engine.text_reward import TextReward, TextRewardModel
from .scorers_inputs import dialogues, write_image_reward

Timing = dict[str, Any]  # scores, wall, cpu
_REGIMES = {"armorm": (25, 130), "armorm_long_prompt": (350, 100)}
"""Words of a prompt and of an answer: as in PDS-DPO's published sample, and with a long context in front."""


def run(
    peer: Path | None = None,
    *,
    images: int = 12,
    batch: int = 6,
    rounds: int = 3,
    threads: int = 1,
    to: Path | None = None,
) -> dict[str, Any]:
    """Measure, print progress to stderr, write raw numbers to `to`, and return the claims; absent ones are None.

    Raises PrefmillError where the peer's Python does not answer.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        raw: dict[str, list[Timing]] = _image_reward(Path(temporary), peer, images, batch, rounds, threads)
    raw |= _text_reward(rounds)
    claims = {
        "imagereward_fp32_vs_peer": _ratio(raw, "peer", "float32"),
        "imagereward_bf16_vs_peer": _ratio(raw, "peer", "bfloat16"),
        "imagereward_max_difference": _difference(raw, "peer", "float32"),
        "imagereward_bf16_rank_agreement": _rank_agreement(raw["float32"], raw["bfloat16"]),
        "armorm_vs_single": _ratio(raw, "armorm_single", "armorm_shared"),
        "armorm_long_prompt_vs_single": _ratio(raw, "armorm_long_prompt_single", "armorm_long_prompt_shared"),
        "armorm_max_difference": _difference(raw, "armorm_single", "armorm_shared"),
    }
    if to is not None:
        setting = {"images": images, "batch": batch, "rounds": rounds, "threads": threads, "words": _REGIMES}
        record = {
            "date": date.today().isoformat(),
            "command": f"python -m prefmill.bench.scorers --images {images} --batch {batch} --rounds {rounds} "
            f"--threads {threads} --peer PYTHON",
            "hardware": hardware_description(),
            "versions": {name: version(name) for name in ("torch", "transformers", "pillow")},
            "setting": setting,
            "claims": claims,
            "raw": {name: [{"wall": row["wall"], "cpu": row["cpu"]} for row in rows] for name, rows in raw.items()},
            "scores": {name: rows[0]["scores"] for name, rows in raw.items()},
        }
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return claims


def _image_reward(
    folder: Path, peer: Path | None, images: int, batch: int, rounds: int, threads: int
) -> dict[str, list[Timing]]:
    write_image_reward(folder, images)
    decoded = torch.from_numpy(np.load(folder / "images.npy"))
    prompts = json.loads((folder / "prompts.json").read_text())
    sides: dict[str, Callable[[], Timing]] = {}
    for dtype in ("float32", "bfloat16"):
        settings = EngineSettings.model_validate({"device": "cpu", "dtype": dtype})
        scorer = ImageScorer.from_pretrained(str(folder), settings)
        sides[dtype] = partial(_timed, partial(_score_in_batches, scorer, decoded, prompts, batch))
    with contextlib.ExitStack() as stack:
        if peer is not None:
            sides = {"peer": stack.enter_context(_peer(peer, folder, threads)), **sides}
        return _take_turns(sides, rounds)


def _text_reward(rounds: int) -> dict[str, list[Timing]]:
    """ArmoRM's shape, an eighth as wide and a quarter as deep, in float32."""
    tokenizer = load_tokenizer(resolve_checkpoint("random:text-reward"))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=3584, num_hidden_layers=6,
        num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=8192, rms_norm_eps=1e-5,
    )  # fmt: skip
    for name, value in {
        "num_objectives": 19, "gating_temperature": 10, "gating_hidden_dim": 256, "gating_n_hidden": 3,
    }.items():  # fmt: skip
        setattr(config, name, value)
    torch.manual_seed(0)
    judge = TextReward(TextRewardModel(config).eval(), tokenizer, "bench")
    sides: dict[str, Callable[[], Timing]] = {}
    for regime, (prompt_words, answer_words) in _REGIMES.items():
        asked, answers = dialogues(3, prompt_words, answer_words)
        sides[f"{regime}_single"] = partial(_timed, partial(_judge_one_by_one, judge, asked, answers))
        sides[f"{regime}_shared"] = partial(_timed, partial(_judge_together, judge, asked, answers))
    return _take_turns(sides, rounds)


def _score_in_batches(scorer: ImageScorer, images: torch.Tensor, prompts: list[str], batch: int) -> list[float]:
    scores: list[float] = []
    for start in range(0, len(images), batch):
        chosen = slice(start, start + batch)
        scores += scorer.score(scorer.preprocess(images[chosen]), prompts[chosen]).values.tolist()
    return scores


def _judge_one_by_one(judge: TextReward, prompts: list[str], answers: list[str]) -> list[float]:
    return [judge.score([prompt], [answer]).scores.item() for prompt, answer in zip(prompts, answers, strict=True)]


def _judge_together(judge: TextReward, prompts: list[str], answers: list[str]) -> list[float]:
    return judge.score(prompts, answers).scores.tolist()


@contextlib.contextmanager
def _peer(python: Path, folder: Path, threads: int) -> Iterator[Callable[[], Timing]]:
    worker = Path(__file__).with_name("scorers_peer.py")
    command = [str(python), "-W", "ignore", str(worker), str(folder), str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "ready":
                break
        else:
            raise PrefmillError(
                f"{python} does not run image-reward.",
                "sh bench/scorers_peer_environment.sh FOLDER makes one that does",
            )
        stdin, stdout = process.stdin, process.stdout

        def ask() -> Timing:
            stdin.write("go\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield ask
        stdin.close()


def _take_turns(sides: dict[str, Callable[[], Timing]], rounds: int) -> dict[str, list[Timing]]:
    """Every side once per round, after one round that does not count."""
    raw: dict[str, list[Timing]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            timing = side()
            print(f"round {number} {name}: {timing['cpu']:.2f} s CPU, {timing['wall']:.2f} s wall", file=sys.stderr)
            if number:
                raw[name].append(timing)
    return raw


def _timed(work: Callable[[], list[float]]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    scores = work()
    return {"scores": scores, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _ratio(raw: dict[str, list[Timing]], slow: str, quick: str) -> float | None:
    if slow not in raw:
        return None
    return round(statistics.median(a["cpu"] / b["cpu"] for a, b in zip(raw[slow], raw[quick], strict=True)), 3)


def _difference(raw: dict[str, list[Timing]], one: str, other: str) -> float | None:
    if one not in raw:
        return None
    return max(abs(a - b) for a, b in zip(raw[one][0]["scores"], raw[other][0]["scores"], strict=True))


def _rank_agreement(one: list[Timing], other: list[Timing]) -> float:
    """Spearman's correlation of two sides' scores."""
    ranks = [np.argsort(np.argsort(side[0]["scores"])) for side in (one, other)]
    return round(float(np.asarray(np.corrcoef(np.stack(ranks)))[0, 1]), 4)


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(description="Measure the scorers against their references.")
    parser.add_argument("--peer", type=Path, help="the Python of an environment with image-reward 1.5")
    for name, value in (("images", 12), ("batch", 6), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--to", type=Path, help="write raw numbers to this JSON file")
    given = parser.parse_args()
    claims = run(
        given.peer, images=given.images, batch=given.batch, rounds=given.rounds, threads=given.threads, to=given.to
    )
    print(json.dumps(claims))


if __name__ == "__main__":
    main()
