"""Published or derived speeds and sizes of the official checkpoints: what a forecast says before anything is measured.

All seconds are an A100's. A figure that nobody measured says how it was derived. Where one was measured elsewhere, its
conditions (eager, 28 steps, 1024 x 1024) are those of the default settings; others are scaled by operations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..train.accelerators import Accelerator
from .rates import Figure

_GB = 1e9
_A100_PEAK = 312e12
LOAD = Figure(60.0, False, "five loads in less than five minutes, estimated")


@dataclass(frozen=True)
class Anchor:
    """Seconds of one unit (an image, an answer, a pair) of a kind of stage on an A100, and the bytes it holds there."""

    stage: str
    pattern: str
    """What the checkpoint's name holds."""
    seconds: float
    memory: float
    source: str
    runtime: str = ""
    """What runs it, where that matters."""


ANCHORS = (
    Anchor(
        "candidates",
        r"stable-diffusion-3-medium",
        4.69,
        18.8 * _GB,
        "OneDiff PR 1013: SD3-medium, 1024 x 1024, 28 steps, A100, eager: 4.69 s and 18.8 GB measured",
    ),
    Anchor("image_scores", r"ImageReward", 1 / 1400, 0.9 * _GB, "0.14 TFLOP an image, derived for an A100"),
    Anchor(
        "responses",
        r"llava-1\.5-7b",
        107 / 1000,
        14 * _GB,
        "gist of xwjiang2010: LLaVA-1.5-7B under vLLM on an A100, 1,000 requests of 104 tokens in 107 s",
        runtime="vllm",
    ),
    Anchor(
        "responses",
        r"13b",
        0.69,
        26 * _GB,
        "75 TFLOP of prefill (2,900 image tokens) at 35 % of an A100's peak, derived",
        runtime="vllm",
    ),
    Anchor(
        "responses",
        r"7b|8b",
        0.36,
        15 * _GB,
        "39 TFLOP of prefill (2,900 image tokens) at 35 % of an A100's peak, derived",
        runtime="vllm",
    ),
    Anchor("responses", r"13b", 7.44, 26 * _GB, "6.2 A100-hours for 3,000 answers one at a time, estimated"),
    Anchor("responses", r"7b|8b", 7.44, 15 * _GB, "6.2 A100-hours for 3,000 answers one at a time, estimated"),
    Anchor("response_scores", r"ArmoRM", 1 / 44, 15 * _GB, "350 tokens of 15 GFLOP an answer, derived for an A100"),
    Anchor("training", r"llava-1\.5-7b", 0.36, 40 * _GB, "0.10 A100-hours for 1,000 pairs, two epochs, estimated"),
)
"""The first that fits is meant."""

_PIXELS = {1024 * 1024: 8.9, 768 * 768: 4.6, 512 * 512: 2.1}
"""TFLOP of one forward of SD3-medium's transformer, by pixels."""
_HOPPER = Figure(4.69 / 2.03, False, "OneDiff: SD3 eager in 4.69 s on an A100, 2.03 s on an H800")


def anchor_of(stage: str, models: tuple[str, ...], config: Mapping[str, Any]) -> Anchor | None:
    """Return what is known of a stage that loads these checkpoints, None where nothing is."""
    runtime = str(config.get("runtime", ""))
    for anchor in ANCHORS:
        owns = re.match(rf"{anchor.stage}(-|$)", stage)
        if owns and runtime.startswith(anchor.runtime) and any(re.search(anchor.pattern, name) for name in models):
            return anchor
    return None


def estimated_rate(anchor: Anchor, config: Mapping[str, Any], per_input: int, gpu: Accelerator) -> Figure:
    """Return the device seconds of one input of a stage on a GPU."""
    factor, source = float(per_input), anchor.source
    if anchor.stage == "candidates":
        side = (config.get("width") or 1024) * (config.get("height") or 1024)
        flops = _PIXELS.get(side, _PIXELS[1024 * 1024] * side / (1024 * 1024))
        factor *= (config.get("steps") or 28) / 28 * flops / _PIXELS[1024 * 1024]
    speed = _speed(gpu)
    if speed is not None:
        factor, source = factor / speed.value, f"{source}; {speed.source}"
    return Figure(anchor.seconds * factor, False, source)


def _speed(gpu: Accelerator) -> Figure | None:
    """Return how much faster than an A100 a GPU is, None for an A100."""
    if gpu.name.startswith("a100"):
        return None
    if gpu.name in {"h100", "h200"}:
        return _HOPPER
    return Figure(gpu.peak / _A100_PEAK, False, f"{gpu.name}: by the makers' peaks")
