"""A chat model that reads no image, run by transformers: what writes prompts and instructions, and judges texts."""

from importlib.metadata import version
from typing import Self, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ..checkpoint import checkpoint_key, load_strict
from ..device import resolve_device, resolve_weights_dtype
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from ..text import load_tokenizer
from .chat import Chat, RequestRefused
from .interface import Request
from .local import LocalResponder


class TransformersTextResponder(LocalResponder):
    """A loaded chat model with its tokenizer. Raises PrefmillError for a tokenizer without a working chat template."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key: str) -> None:
        super().__init__(model, Chat(tokenizer, key), key)

    @classmethod
    def from_pretrained(cls, source: str, settings: EngineSettings | None = None) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        loaded = load_strict(AutoModelForCausalLM, folder, dtype=resolve_weights_dtype(settings, device))
        model = cast(PreTrainedModel, loaded)
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        return cls(model, load_tokenizer(folder), f"{checkpoint_key(folder)}+transformers-{version('transformers')}")

    def _inputs(self, request: Request) -> dict[str, torch.Tensor]:
        if request.images:
            raise RequestRefused("images", f"{self.key} reads no images, and is asked about {len(request.images)}")
        text = self.chat.render(request.text)
        encoded = self.tokenizer(text, return_tensors="pt", add_special_tokens=self.chat.adds_start, verbose=False)
        return {name: cast(torch.Tensor, encoded[name]) for name in ("input_ids", "attention_mask")}
