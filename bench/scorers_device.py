"""Scorers on a GPU: images and answers per second at the official sizes, beside the rate of its matrix units.

    prefmill bench scorers --device cuda --rounds 20 --to bench/results/scorers-h200.json
    prefmill bench scorers --device cuda --dry-run             # the same script, tiny, on a CPU

An image's way: decoded uint8 pixels on the device, the `pixels` kernel for a whole batch of one size, ImageReward in
bfloat16. A run's images go through the kernel one by one, and those that were not drawn in that run are decoded and
resized on the host. Weights are random, which changes no speed. The limit is a large matrix product in bfloat16,
measured in the same run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer

from ..base.errors import PrefmillError
from ..engine.scorers.image_reward import ImageRewardModel, ImageRewardScorer, official_config
from ..engine.scorers.text_reward import TextReward, TextRewardModel
from ..engine.settings import EngineSettings
from ..engine.sources import resolve_checkpoint
from ..engine.text import load_tokenizer
from .kernel_timing import ceilings, operations, seconds
from .result_file import write_result
from .scorers_inputs import REGIMES, armorm_config, dialogues

DTYPE = torch.bfloat16
IMAGES, PROMPTS = 64, 16  # in one call; a prompt has four answers


@dataclass(frozen=True)
class Workload:
    """What is measured: `count` images or answers in one call."""

    name: str
    unit: str
    count: int
    call: Callable[[], Any]


def run(*, dry_run: bool = False, rounds: int = 10, to: Path | None = None) -> dict[str, Any]:
    """Measure, write raw seconds to `to`, and return the claims. Raises PrefmillError where there is no GPU.

    A dry run takes tiny models on a CPU; its numbers say that, and nothing else.
    """
    if not dry_run and not torch.cuda.is_available():
        raise PrefmillError("torch sees no GPU here.", "add --dry-run to try it on a CPU, or leave --device out")
    device = torch.device("cpu" if dry_run else "cuda")
    matmul, _ = ceilings(device, DTYPE, dry_run)
    claims: dict[str, Any] = {"dry_run": dry_run, "matmul_tflops": round(matmul / 1e12, 4)}
    raw: dict[str, list[float]] = {}
    with torch.inference_mode():
        for work in chain(_image_work(device, dry_run), _answer_work(device, dry_run)):
            flops = operations(work.call)  # and warms up
            raw[work.name] = [seconds(device, work.call) for _ in range(rounds)]
            rate = work.count / statistics.median(raw[work.name])
            claims[f"{work.name}_{work.unit}_per_second"] = round(rate, 2)
            claims[f"{work.name}_of_matmul_rate"] = round(flops / work.count * rate / matmul, 4)
    for name in REGIMES:
        ours, single = (claims[f"{name}{kind}_answers_per_second"] for kind in ("", "_single"))
        claims[f"{name}_vs_single"] = round(ours / single, 3)
    if device.type == "cuda":
        claims["gpu"] = torch.cuda.get_device_name(device)
    if to is not None:
        command = f"prefmill bench scorers --device cuda --rounds {rounds}{' --dry-run' if dry_run else ''}"
        setting = {"images": IMAGES, "prompts": PROMPTS, "rounds": rounds, "words": REGIMES}
        write_result(to, command, setting, claims, seconds=raw)
    return claims


def _image_work(device: torch.device, tiny: bool) -> Iterator[Workload]:
    scorer = _image_scorer(device, tiny)
    count, side = (4, 96) if tiny else (IMAGES, 1024)
    stream = torch.Generator().manual_seed(0)
    decoded = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=stream).to(device)
    prompts = dialogues(count, 25, 1)[0][:count]
    pixels = scorer.preprocess(decoded)
    yield Workload("imagereward", "images", count, lambda: scorer.score(scorer.preprocess(decoded), prompts))
    yield Workload("imagereward_network", "images", count, lambda: scorer.score(pixels, prompts))


def _answer_work(device: torch.device, tiny: bool) -> Iterator[Workload]:
    judge = _judge(device, tiny)
    for name, words in REGIMES.items():
        asked, answers = dialogues(1 if tiny else PROMPTS, *words)
        yield Workload(name, "answers", len(answers), partial(judge.score, asked, answers))
        yield Workload(f"{name}_single", "answers", len(answers), partial(judge_one_by_one, judge, asked, answers))


def judge_one_by_one(judge: TextReward, prompts: list[str], answers: list[str]) -> list[float]:
    """Scores of answers judged alone, each with its prompt: what sharing prompts is measured against."""
    return [judge.score([prompt], [answer]).scores.item() for prompt, answer in zip(prompts, answers, strict=True)]


def _image_scorer(device: torch.device, tiny: bool) -> ImageRewardScorer:
    if tiny:
        return ImageRewardScorer.from_pretrained("random:image-reward", EngineSettings(device="cpu", dtype="bfloat16"))
    with device:
        model = ImageRewardModel(official_config())
    tokenizer = load_tokenizer(resolve_checkpoint("random:image-reward"), BertTokenizer)
    return ImageRewardScorer(model.eval().to(DTYPE), tokenizer, "bench")  # type: ignore[arg-type]  # a decorated `to`


def _judge(device: torch.device, tiny: bool) -> TextReward:
    if tiny:
        return TextReward.from_pretrained("random:text-reward", EngineSettings(device="cpu", dtype="bfloat16"))
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPE)  # eight billion weights are made in the precision they are used in
    try:
        with device:
            model = TextRewardModel(armorm_config()).eval()
    finally:
        torch.set_default_dtype(before)
    model.keep_heads_precise()
    return TextReward(model, load_tokenizer(resolve_checkpoint("random:text-reward")), "bench")
