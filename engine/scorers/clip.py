"""CLIP as a scorer: the cosine of image and prompt. It knows nothing of taste; the yardstick of the better ones.

The two towers never look at each other, so a prompt is read once for all of its images: its features are kept.
PickScore and HPSv2 are CLIPs that were trained on people's choices: they differ in their files and their scale.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from transformers import CLIPModel, PreTrainedTokenizerBase

from ..backends.catalogue import make_runners
from ..checkpoint import checkpoint_key, load_strict
from ..device import resolve_device, resolve_weights_dtype
from ..image_inputs import ImagePreprocessing
from ..network import Dimension, Input, Network, right_padded, whole_numbers
from ..runner import Runner
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from ..text import load_tokenizer, tokenize_prompts
from .interface import ImageScorer

_KEPT_PROMPTS = 4096


class ClipScorer(ImageScorer):
    """A loaded CLIP with its tokenizer; scores are cosines, from -1 to 1."""

    name: ClassVar[str] = "clip"
    """What its keys begin with."""
    letterboxed: ClassVar[bool] = False
    """Whether the original pads an image to the square, where CLIP crops it."""

    def __init__(
        self,
        model: CLIPModel,
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
        self.scale = self.scale_of(model)
        text = model.config.get_text_config()
        self.max_tokens = int(text.max_position_embeddings)
        image = Network("clip_image", model, embed_images, image_inputs(inputs.size), ("features",))
        batch, length = Dimension("batch", 1, 4, 64), Dimension("length", 2, 16, self.max_tokens)
        words = {
            "tokens": Input((batch, length), torch.int64, whole_numbers(0, int(text.vocab_size))),
            "mask": Input((batch, length), torch.int64, right_padded),
        }
        text_tower = Network("clip_text", model, _embed_texts, words, ("features",))
        self.runner, self.reader = make_runners((image, text_tower), settings)
        # Prompt to unit features [D] and whether it was cut; the prompt used longest ago goes first.
        self._read: OrderedDict[str, tuple[torch.Tensor, bool]] = OrderedDict()

    @classmethod
    def from_pretrained(cls, source: str, settings: EngineSettings | None = None) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        model, tokenizer = cls.load(folder, resolve_weights_dtype(settings, device))
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        vision = cast(Any, model.config.vision_config)  # a dictionary only in JSON
        inputs = ImagePreprocessing.of_folder(folder, int(vision.image_size), letterbox=cls.letterboxed)
        return cls(model, tokenizer, checkpoint_key(folder, cls.name), inputs, settings=settings)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype) -> tuple[CLIPModel, PreTrainedTokenizerBase]:
        """Load the network and the tokenizer of a folder. Raises PrefmillError for whatever does not fit."""
        return load_strict(CLIPModel, folder, dtype=dtype), load_tokenizer(folder)

    @property
    def runners(self) -> tuple[Runner, ...]:
        return (self.runner, self.reader)

    def read(self, prompts: Sequence[str]) -> tuple[torch.Tensor, list[bool]]:
        """Unit features [B, D] of prompts, each computed once, and which prompts were cut."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._read]
        if new:
            tokens, mask, cut = tokenize_prompts(self.tokenizer, new, self.max_tokens)
            device = self.reader.device
            # Neither gradients nor inference mode: a gradient of the image may not pass its tensors.
            with torch.inference_mode(False), torch.no_grad():
                features = self.reader.run({"tokens": tokens.to(device), "mask": mask.to(device)})["features"]
            self._read |= dict(zip(new, zip(features, cut, strict=True), strict=True))
        rows = [self._read[prompt] for prompt in prompts]
        for prompt in prompts:
            self._read.move_to_end(prompt)
        while len(self._read) > _KEPT_PROMPTS:
            self._read.popitem(last=False)
        return torch.stack([features for features, _ in rows]), [cut for _, cut in rows]

    def score_pixels(self, pixels: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, list[bool]]:
        text, truncated = self.read(prompts)
        return self.scale * (self.embed(pixels) * text).sum(-1), truncated

    @staticmethod
    def scale_of(model: CLIPModel) -> float:
        """By what the cosine is multiplied."""
        return 1.0

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit features [B, D], float32, of pixels [B, 3, S, S]."""
        return self.runner.run({"pixels": pixels.to(self.runner.device, self.runner.dtype)})["features"]


def image_inputs(side: int) -> dict[str, Input]:
    """Pixels of square images."""
    return {"pixels": Input((Dimension("batch", 1, 16, 64), 3, side, side))}


def embed_images(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels [B, 3, S, S] to unit features [B, D], float32."""
    return _unit(model.get_image_features(pixel_values=pixels))


def _embed_texts(model: CLIPModel, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _unit(model.get_text_features(input_ids=tokens, attention_mask=mask))


def _unit(output: Any) -> torch.Tensor:
    """The pooled features [B, D] of a tower's output, float32, at length one."""
    return torch.nn.functional.normalize(output.pooler_output.float(), dim=-1)
