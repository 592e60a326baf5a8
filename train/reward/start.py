"""What an image reward is trained from: BLIP's matching model with a fresh head, or a reward that is there already.

BLIP's image-text matching model has the two towers that ImageReward has; its own projections and its matching head are
left out. A fresh head is drawn as ImageReward's layers are (arXiv 2304.05977, its code: normal with deviation 1 over
the input's width plus one, bias zero), as the one affine map that its five layers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BertTokenizer, BlipForImageTextRetrieval, PreTrainedTokenizerBase

from ...base.errors import PrefmillError
from ...engine.checkpoint import load_strict, read_config
from ...engine.networks.image_reward import (
    OFFICIAL_WEIGHTS,
    ImageRewardConfig,
    ImageRewardModel,
    load_image_reward,
)
from ...engine.scorers.image_reward import load_reward_tokenizer
from ...engine.text import load_tokenizer


def load_start(folder: Path, aspects: Sequence[str], seed: int) -> tuple[ImageRewardModel, PreTrainedTokenizerBase]:
    """Return the network in float32, with a head for each of `aspects` beside the main one, and its tokenizer.

    Fresh heads are drawn from `seed`; those beside the head of a reward begin as that is. Raises PrefmillError for a
    folder that is neither a BLIP matching model nor an image reward.
    """
    if (folder / OFFICIAL_WEIGHTS).is_file():
        return _with_heads(load_image_reward(folder), aspects, seed), load_reward_tokenizer(folder)
    kind = read_config(folder).get("model_type")
    if kind == ImageRewardConfig.model_type:
        return _with_heads(load_image_reward(folder), aspects, seed), load_reward_tokenizer(folder)
    if kind != "blip":
        raise PrefmillError(
            f"{folder} is a {kind!r} model, and an image reward is trained from BLIP or from an image reward",
            "set model to a BLIP matching model, such as Salesforce/blip-itm-large-coco, or to THUDM/ImageReward",
        )
    matching = load_strict(BlipForImageTextRetrieval, folder)
    return _from_matching(matching, aspects, seed), load_tokenizer(folder, BertTokenizer)


def draw_head(head: torch.nn.Linear, seed: int) -> None:
    """Fill a head [H, D] as ImageReward's layers are."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=stream) / (head.in_features + 1))
        head.bias.zero_()


def _from_matching(matching: BlipForImageTextRetrieval, aspects: Sequence[str], seed: int) -> ImageRewardModel:
    model = _fresh(matching.vision_model.config, matching.text_encoder.config, aspects)
    model.vision_model.load_state_dict(matching.vision_model.state_dict())
    model.text_model.load_state_dict(matching.text_encoder.state_dict())
    draw_head(model.head, seed)
    if aspects:
        draw_head(model.aspect_heads, seed)
    return model


def _with_heads(before: ImageRewardModel, aspects: Sequence[str], seed: int) -> ImageRewardModel:
    """The same towers, the head in the scale of its raw output, and a copy of it for every aspect."""
    model = _fresh(before.vision_model.config, before.text_model.config, aspects)
    for part in ("vision_model", "text_model", "head"):
        getattr(model, part).load_state_dict(getattr(before, part).state_dict())
    if aspects:
        with torch.no_grad():
            model.aspect_heads.weight.copy_(before.head.weight.expand_as(model.aspect_heads.weight))
            model.aspect_heads.bias.copy_(before.head.bias.expand_as(model.aspect_heads.bias))
    return model


def _fresh(vision: object, text: object, aspects: Sequence[str]) -> ImageRewardModel:
    config = ImageRewardConfig(
        vision_config=vision,  # type: ignore[arg-type]
        text_config=text,  # type: ignore[arg-type]
        reward_mean=0.0,
        reward_deviation=1.0,
        aspects=list(aspects) or None,
    )
    return ImageRewardModel(config)
