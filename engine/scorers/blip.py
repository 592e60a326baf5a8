"""BLIP's matching head as a scorer: by how much it finds that a prompt and an image belong together.

The score is the logit of a match minus that of no match, the log-odds. Its probability, which BLIP's own example
prints, orders images in the same way but saturates at 1 where candidates of one prompt differ.
"""

from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from transformers import BlipForImageTextRetrieval, PreTrainedTokenizerBase

from ..backends.catalogue import make_runner
from ..checkpoint import checkpoint_key, load_strict
from ..device import resolve_device, resolve_weights_dtype
from ..image_inputs import ImagePreprocessing
from ..network import Network
from ..networks.blip import blip_inputs, encode_image, read_prompts
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from ..text import load_tokenizer, tokenize_prompts
from .interface import ImageScorer

MAX_TEXT_TOKENS = 35
"""BLIP was trained on, and its example reads, so many tokens of a caption."""


class BlipScorer(ImageScorer):
    """A loaded BLIP image-text matching model with its tokenizer; scores are log-odds."""

    def __init__(
        self,
        model: BlipForImageTextRetrieval,
        tokenizer: PreTrainedTokenizerBase,
        key: str,
        inputs: ImagePreprocessing,
        *,
        settings: EngineSettings | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.key = key
        self.inputs = inputs
        words = int(cast(Any, model.config.text_config).vocab_size)
        network = Network(
            "blip_matching", model, _log_odds, blip_inputs(inputs.size, words, MAX_TEXT_TOKENS), ("scores",)
        )
        self.runner = make_runner(network, settings)

    @classmethod
    def from_pretrained(cls, source: str, settings: EngineSettings | None = None) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        model = load_strict(BlipForImageTextRetrieval, folder, dtype=resolve_weights_dtype(settings, device))
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        vision = cast(Any, model.config.vision_config)  # a dictionary only in JSON
        # The original squashes the image to the square, where ImageReward crops it.
        inputs = ImagePreprocessing.of_folder(folder, int(vision.image_size), squash=True)
        key = checkpoint_key(folder, "blip_matching")
        return cls(model, load_tokenizer(folder), key, inputs, settings=settings)

    def score_pixels(self, pixels: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, list[bool]]:
        tokens, mask, truncated = tokenize_prompts(self.tokenizer, prompts, MAX_TEXT_TOKENS)
        device, dtype = self.runner.device, self.runner.dtype
        inputs = {"pixels": pixels.to(device, dtype), "tokens": tokens.to(device), "mask": mask.to(device)}
        return self.runner.run(inputs)["scores"], truncated


def _log_odds(
    model: BlipForImageTextRetrieval, pixels: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    image = encode_image(model.vision_model, pixels)
    logits = model.itm_head(read_prompts(model.text_encoder, tokens, mask, image)).float()
    return logits[:, 1] - logits[:, 0]
