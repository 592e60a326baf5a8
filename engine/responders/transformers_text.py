"""A chat model that reads no image, run by transformers: what writes prompts and instructions, and judges texts."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, cast

from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ...base.errors import PrefmillError
from ..checkpoint import checkpoint_key, load_strict
from ..device import Execution, execution_of, resolve_device, resolve_weights_dtype
from ..runner import Runner
from ..settings import EngineSettings, Sampling
from ..sources import resolve_checkpoint
from ..text import load_tokenizer, render_chat
from .interface import Reply, Request
from .sampling import decode_answers, fit_to_context, generate_tokens, keep_stop_tokens_only


class TransformersTextResponder:
    """A loaded chat model with its tokenizer; `key` names the weights by content."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.key = key
        keep_stop_tokens_only(model)

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

    @property
    def execution(self) -> Execution:
        """How the model really runs; the library's `generate` drives it, step by step with a cache."""
        return execution_of(self.model)

    @property
    def runners(self) -> tuple[Runner, ...]:
        """None: the library's `generate` runs all of it."""
        return ()

    def answer(
        self, requests: Sequence[Request], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[Reply]:
        """Answer each request; a schema is not enforced here.

        Raises PrefmillError for a request with an image, one longer than the model's context, and NaN logits.
        """
        if not requests:
            return []
        if any(request.images for request in requests):
            raise PrefmillError(f"{self.key} reads no images, and was given one.", "name a vision-language model")
        texts = [
            render_chat(self.tokenizer, [{"role": "user", "content": request.text}], add_generation_prompt=True)
            for request in requests
        ]
        batch = self.tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False, verbose=False
        )
        names = ("input_ids", "attention_mask")
        inputs = {name: batch[name].to(self.model.device) for name in names}  # type: ignore[union-attr]
        sampling = fit_to_context(self.model, inputs, sampling)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        seeds = [request.seed for request in requests]
        tokens = generate_tokens(self.model, inputs, seeds, sampling, cast(int, pad))
        return list(decode_answers(self.model, self.tokenizer, tokens))

    def keep_in(self, folder: Path) -> None:
        """Nothing to keep: what was not committed is computed again."""

    def close(self) -> None:
        """Nothing to stop: the model goes with the object."""
