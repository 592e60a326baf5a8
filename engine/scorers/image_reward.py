"""ImageReward as a scorer: how well an image fits its prompt, as people would rank it (arXiv 2304.05977).

Prompts beyond 35 tokens are cut, as in the original, which does so silently; here every score says whether it saw
the whole prompt.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from transformers import BertTokenizer, PreTrainedTokenizerBase

from ...base.errors import PrefmillError
from ..backends.catalogue import make_runner
from ..checkpoint import checkpoint_key
from ..device import resolve_device, resolve_weights_dtype
from ..image_inputs import PIXEL_DEVIATION, PIXEL_MEAN, ImagePreprocessing
from ..network import Network
from ..networks.blip import blip_inputs
from ..networks.image_reward import (
    OFFICIAL_WEIGHTS,
    ImageRewardConfig,
    ImageRewardModel,
    convert_official_state_dict,
    load_image_reward,
    official_config,
)
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from ..text import load_tokenizer, tokenize_prompts
from .interface import ImageScorer, ImageScores

__all__ = [
    "PIXEL_DEVIATION",
    "PIXEL_MEAN",
    "ImageRewardConfig",
    "ImageRewardModel",
    "ImageRewardScorer",
    "ImageScores",
    "convert_official_state_dict",
    "load_image_reward",
    "official_config",
]

MAX_TEXT_TOKENS = 35


class ImageRewardScorer(ImageScorer):
    """A loaded ImageReward with its tokenizer; `key` names the weights by content."""

    def __init__(
        self,
        model: ImageRewardModel,
        tokenizer: PreTrainedTokenizerBase,
        key: str,
        *,
        settings: EngineSettings | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.key = key
        self.inputs = ImagePreprocessing(int(model.vision_model.config.image_size))  # type: ignore[arg-type]  # square here
        text = blip_inputs(self.inputs.size, int(model.text_model.config.vocab_size), MAX_TEXT_TOKENS)
        self.aspects = tuple(model.config.aspects or ())
        compute = _ratings if self.aspects else _scores
        self.runner = make_runner(Network("image_reward", model, compute, text, ("scores",)), settings)

    @classmethod
    def from_pretrained(cls, source: str, settings: EngineSettings | None = None) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        model = load_image_reward(folder, resolve_weights_dtype(settings, device))
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        return cls(model, load_reward_tokenizer(folder), checkpoint_key(folder, "image_reward"), settings=settings)

    def score_pixels(self, pixels: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, list[bool]]:
        tokens, mask, truncated = self.tokenize(prompts)
        device, dtype = self.runner.device, self.runner.dtype
        inputs = {"pixels": pixels.to(device, dtype), "tokens": tokens.to(device), "mask": mask.to(device)}
        return self.runner.run(inputs)["scores"], truncated

    def tokenize(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, list[bool]]:
        """Tokens and mask [B, T], T the longest row's but at most 35, and which prompts were cut.

        The original pads to 35 always; padding is masked, so that a score does not depend on it.
        """
        return tokenize_prompts(self.tokenizer, prompts, MAX_TEXT_TOKENS)


def _scores(model: ImageRewardModel, pixels: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return model(pixels, tokens, mask)


def _ratings(model: ImageRewardModel, pixels: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return model.rate(pixels, tokens, mask)


def load_reward_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of an image reward's folder. Raises PrefmillError where there is none."""
    has_own = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    if has_own or not (folder / OFFICIAL_WEIGHTS).is_file():
        # By class: `AutoTokenizer` looks the model type up and does not know this one.
        return load_tokenizer(folder, BertTokenizer)
    try:  # the official folder has none: the original takes the vocabulary of bert-base-uncased
        return BertTokenizer.from_pretrained("google-bert/bert-base-uncased")
    except Exception as error:  # offline, mostly
        raise PrefmillError(
            f"{folder} has no tokenizer, and bert-base-uncased is not to be had from the hub.",
            f"put bert-base-uncased's vocab.txt into {folder}",
        ) from error
