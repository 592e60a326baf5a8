"""Scorers measured: ImageReward against the image-reward package, and ArmoRM against one answer at a time.

    sh bench/scorers_peer_environment.sh /tmp/image-reward     # once
    prefmill bench scorers --peer /tmp/image-reward/bin/python
    prefmill bench scorers --device cuda                       # see scorers_device.py

All sides take turns in one run, round by round, with the same number of threads, from decoded 1024 x 1024 images in
memory. The claimed ratios are medians over rounds of CPU seconds with one thread: on a machine that nothing else uses
these are the wall seconds, and on a shared one they are still the work. Wall seconds stand beside them in the result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch

from ..base.errors import PrefmillError
from ..engine.scorers.image_reward import ImageRewardScorer
from ..engine.scorers.text_reward import TextReward, TextRewardModel
from ..engine.settings import EngineSettings
from ..engine.sources import resolve_checkpoint
from ..engine.text import load_tokenizer
from . import scorers_device
from .kernel_timing import operations
from .result_file import write_result
from .scorers_inputs import REGIMES, armorm_config, dialogues, write_image_reward
from .turns import Timing, ratio, take_turns, timed


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
        "imagereward_fp32_vs_peer_over_files": _ratio(raw, "peer_files", "float32"),
        "imagereward_fp32_of_matmul_rate": _ratio(raw, "matmul", "float32"),
        "imagereward_max_difference": _difference(raw, "peer", "float32"),
        "imagereward_bf16_rank_agreement": _rank_agreement(raw["float32"], raw["bfloat16"]),
        "armorm_vs_single": _ratio(raw, "armorm_single", "armorm_shared"),
        "armorm_long_prompt_vs_single": _ratio(raw, "armorm_long_prompt_single", "armorm_long_prompt_shared"),
        "armorm_max_difference": _difference(raw, "armorm_single", "armorm_shared"),
    }
    if to is not None:
        setting = {"images": images, "batch": batch, "rounds": rounds, "threads": threads, "words": REGIMES}
        write_result(
            to,
            f"prefmill bench scorers --images {images} --batch {batch} --rounds {rounds} --threads {threads} "
            "--peer PYTHON",
            setting,
            claims,
            raw={name: [{"wall": row["wall"], "cpu": row["cpu"]} for row in rows] for name, rows in raw.items()},
            scores={name: rows[0]["scores"] for name, rows in raw.items()},
        )
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
        scorer = ImageRewardScorer.from_pretrained(str(folder), settings)
        sides[dtype] = partial(_scored, partial(_score_in_batches, scorer, decoded, prompts, batch))
    sides["matmul"] = partial(_scored, partial(_multiply, operations(sides["float32"]), batch))
    with contextlib.ExitStack() as stack:
        if peer is not None:
            ask = stack.enter_context(_peer(peer, folder, threads))
            sides = {"peer": partial(ask, "memory"), "peer_files": partial(ask, "files"), **sides}
        return take_turns(sides, rounds)


def _multiply(flops: int, batch: int) -> list[float]:
    """So many operations of nothing but the image tower's largest product, in float32: the limit of the core."""
    states, weight = torch.randn(batch * 197, 1024), torch.randn(4096, 1024)
    for _ in range(round(flops / (2 * states.numel() * len(weight)))):
        torch.nn.functional.linear(states, weight)
    return []


def _text_reward(rounds: int) -> dict[str, list[Timing]]:
    """ArmoRM's shape, an eighth as wide and a quarter as deep, in float32."""
    tokenizer = load_tokenizer(resolve_checkpoint("random:text-reward"))
    config = armorm_config(
        vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=3584, num_hidden_layers=6,
        num_attention_heads=16, num_key_value_heads=4, gating_hidden_dim=256,
    )  # fmt: skip
    torch.manual_seed(0)
    judge = TextReward(TextRewardModel(config).eval(), tokenizer, "bench")
    sides: dict[str, Callable[[], Timing]] = {}
    for regime, (prompt_words, answer_words) in REGIMES.items():
        asked, answers = dialogues(3, prompt_words, answer_words)
        sides[f"{regime}_single"] = partial(_scored, partial(scorers_device.judge_one_by_one, judge, asked, answers))
        sides[f"{regime}_shared"] = partial(_scored, partial(_judge_together, judge, asked, answers))
    return take_turns(sides, rounds)


def _score_in_batches(scorer: ImageRewardScorer, images: torch.Tensor, prompts: list[str], batch: int) -> list[float]:
    scores: list[float] = []
    for start in range(0, len(images), batch):
        chosen = slice(start, start + batch)
        scores += scorer.score(scorer.preprocess(images[chosen]), prompts[chosen]).values.tolist()
    return scores


def _judge_together(judge: TextReward, prompts: list[str], answers: list[str]) -> list[float]:
    return judge.score(prompts, answers).scores.tolist()


@contextlib.contextmanager
def _peer(python: Path, folder: Path, threads: int) -> Iterator[Callable[[str], Timing]]:
    worker = Path(__file__).with_name("scorers_peer.py")
    command = [str(python), "-W", "ignore", str(worker), str(folder), str(threads)]
    silent = PrefmillError(
        f"{python} does not run image-reward.", "sh bench/scorers_peer_environment.sh FOLDER makes one that does"
    )
    try:
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise silent from error
    with started as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "ready":
                break
        else:
            raise silent
        stdin, stdout = process.stdin, process.stdout

        def ask(route: str) -> Timing:
            stdin.write(f"{route}\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield ask
        stdin.close()


def _scored(work: Callable[[], list[float]]) -> Timing:
    timing = timed(work)
    return {"scores": timing.pop("result"), **timing}


def _ratio(raw: dict[str, list[Timing]], slow: str, quick: str) -> float | None:
    if slow not in raw:
        return None
    return ratio(raw[slow], raw[quick])


def _difference(raw: dict[str, list[Timing]], one: str, other: str) -> float | None:
    if one not in raw:
        return None
    return max(abs(a - b) for a, b in zip(raw[one][0]["scores"], raw[other][0]["scores"], strict=True))


def _rank_agreement(one: list[Timing], other: list[Timing]) -> float:
    """Spearman's correlation of two sides' scores; equal scores have the mean of their ranks."""
    scores = pandas.DataFrame([side[0]["scores"] for side in (one, other)]).T
    return round(float(scores.corr(method="spearman").iloc[0, 1]), 4)


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(description="Measure the scorers against their references.")
    parser.add_argument("--peer", type=Path, help="the Python of an environment with image-reward 1.5")
    for name, value in (("images", 12), ("batch", 6), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: the rates of the official sizes"
    )
    parser.add_argument("--dry-run", action="store_true", help="try what --device cuda does, tiny, on a CPU")
    parser.add_argument("--to", type=Path, help="write raw numbers to this JSON file")
    given = parser.parse_args()
    if given.device == "cuda":
        print(json.dumps(scorers_device.run(dry_run=given.dry_run, rounds=given.rounds, to=given.to)))
        return
    claims = run(
        given.peer, images=given.images, batch=given.batch, rounds=given.rounds, threads=given.threads, to=given.to
    )
    print(json.dumps(claims))


if __name__ == "__main__":
    main()
