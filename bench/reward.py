"""A step of an image reward's training: every pair reading its own two images, and what is done instead.

    prefmill bench reward
    prefmill bench reward --width 512 --layers 12 --rounds 5 --to reward.json

A prompt's four images have six pairs. `pairs` reads twelve images, as a training that is given pair by pair does;
`prompts` reads each image once; `cached` takes what the frozen layers say of it from the cache. All three give the
same loss and gradients. Operations are counted by torch for ImageReward's own size (ViT-L/16 at 224 pixels, BERT-base,
70 % of the layers frozen) without computing; CPU seconds, one thread, are of a smaller network of the same shape.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BlipTextConfig, BlipVisionConfig

from ..engine.networks.image_reward import ImageRewardConfig, ImageRewardModel, official_config
from ..train.reward.network import RewardNetwork
from .result_file import write_result
from .turns import Timing, ratio, take_turns, timed

IMAGES, PAIRS = 4, 6
TOKENS = 20
FROZEN = 0.7
SIDES = ("pairs", "prompts", "cached")


def run(*, width: int = 256, layers: int = 12, rounds: int = 3, to: Path | None = None) -> dict[str, Any]:
    """Count and measure, and return how many times the work of `cached` and of `prompts` the work of `pairs` is."""
    torch.set_num_threads(1)
    with torch.device("meta"):
        official = RewardNetwork(ImageRewardModel(official_config()), FROZEN)
        operations = {side: _operations(official, side) for side in SIDES}
    torch.manual_seed(0)
    network = RewardNetwork(ImageRewardModel(_config(width, layers)), FROZEN)
    torch.nn.init.normal_(network.heads.weight)  # rewards that differ, so that equal losses say something
    pixels = torch.randn(IMAGES, 3, network.image_size, network.image_size)
    features = network.features(pixels)
    raw = take_turns({side: partial(_timed, network, side, pixels, features) for side in SIDES}, rounds)
    losses = [[row["loss"] for row in raw[side]] for side in SIDES]
    claims: dict[str, Any] = {
        "prompts_vs_pairs_operations": round(operations["pairs"] / operations["prompts"], 3),
        "cached_vs_pairs_operations": round(operations["pairs"] / operations["cached"], 3),
        "prompts_vs_pairs_seconds": ratio(raw["pairs"], raw["prompts"]),
        "cached_vs_pairs_seconds": ratio(raw["pairs"], raw["cached"]),
        "loss_max_difference": max(max(row) - min(row) for row in zip(*losses, strict=True)),
    }
    if to is not None:
        setting = {"width": width, "layers": layers, "rounds": rounds, "images": IMAGES, "tokens": TOKENS}
        command = f"prefmill bench reward --width {width} --layers {layers} --rounds {rounds}"
        write_result(to, command, setting, claims, raw=raw, operations=operations)
    return claims


def _step(network: RewardNetwork, side: str, pixels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Forward and backward of one prompt's pairs; the earlier of two images is the better one."""
    network.zero_grad(set_to_none=True)
    better, worse = torch.triu_indices(IMAGES, IMAGES, offset=1)
    tokens = torch.zeros(IMAGES, TOKENS, dtype=torch.int64, device=pixels.device)
    tokens, mask = tokens + 5, torch.ones_like(tokens)
    if side == "pairs":
        rows = torch.cat([better, worse]).to(pixels.device)
        chosen, rejected = network(tokens[:1].expand(12, -1), mask[:1].expand(12, -1), pixels=pixels[rows]).chunk(2)
    else:
        given = {"features": features} if side == "cached" else {"pixels": pixels}
        rewards = network(tokens, mask, **given)
        chosen, rejected = rewards[better], rewards[worse]
    loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
    loss.backward()
    return loss.detach()


def _operations(network: RewardNetwork, side: str) -> int:
    pixels, features = (torch.empty(IMAGES, *shape) for shape in ((3, 224, 224), network.feature_shape))
    counter = FlopCounterMode(display=False)
    with counter:
        _step(network, side, pixels, features)
    return counter.get_total_flops()


def _timed(network: RewardNetwork, side: str, pixels: torch.Tensor, features: torch.Tensor) -> Timing:
    timing = timed(partial(_step, network, side, pixels, features))
    return {**timing, "loss": float(timing.pop("result"))}


def _config(width: int, layers: int) -> ImageRewardConfig:
    """Towers whose widths and depths are to each other as ImageReward's are."""
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        image_size=224,
        patch_size=16,
        layer_norm_eps=1e-6,
        initializer_range=0.02,
    )
    narrow = width * 3 // 4
    text = BlipTextConfig(
        hidden_size=narrow,
        intermediate_size=4 * narrow,
        num_hidden_layers=layers // 2,
        num_attention_heads=narrow // 64,
        encoder_hidden_size=width,
        is_decoder=True,
    )
    return ImageRewardConfig(vision_config=vision, text_config=text, reward_mean=0.0, reward_deviation=1.0)  # type: ignore[arg-type]


def main() -> None:
    """Measure; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--width", type=int, default=256, help="of the image tower")
    parser.add_argument("--layers", type=int, default=12, help="of the image tower; the text tower has half as many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--to", type=Path, help="write all numbers into this JSON file")
    given = parser.parse_args()
    print(json.dumps(run(width=given.width, layers=given.layers, rounds=given.rounds, to=given.to)))
