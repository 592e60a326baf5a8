"""Prompts to what the transformer reads of them: two CLIP encoders, and T5 or empty tokens in its place.

The CLIPs' states before the last layer stand side by side, padded to T5's width, and T5's states follow as further
tokens; the CLIPs' pooled projections are the second output. Lengths are always full: the transformer was trained so.

Prompts are encoded one at a time, so that an embedding has the same bits in every batch; the last ones are kept. T5,
two thirds of the weights, may rest in the host's memory and come to the device once for all new prompts of a batch.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase

from ..backends.catalogue import make_runners
from ..network import Dimension, Input, Network, whole_numbers
from ..placement import visiting
from ..runner import EagerRunner, Runner
from ..settings import EngineSettings
from ..text import bounded_text

KEPT = 64
"""Embeddings kept by default: with the official checkpoint in bfloat16 2.7 MB each, on the device."""


@dataclass(frozen=True)
class TextEmbedding:
    """What the transformer sees of prompts: tokens [B, T, D] and pooled [B, P]."""

    tokens: torch.Tensor
    pooled: torch.Tensor

    @classmethod
    def stack(cls, rows: Sequence["TextEmbedding"]) -> "TextEmbedding":
        """Several as one batch."""
        return cls(torch.cat([row.tokens for row in rows]), torch.cat([row.pooled for row in rows]))


class TextEncoders:
    """The tokenizers and encoders of a Stable Diffusion 3; `width` is that of the transformer's tokens."""

    def __init__(
        self,
        tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase, PreTrainedTokenizerBase | None],
        models: tuple[torch.nn.Module, torch.nn.Module, torch.nn.Module | None],
        width: int,
        t5_tokens: int,
        settings: EngineSettings | None = None,
    ) -> None:
        """Where T5's weights lie apart from CLIP's, they are taken to CLIP's device whenever T5 is needed."""
        *self.clip_tokenizers, self.t5_tokenizer = tokenizers
        self.width = width
        self.t5_tokens = t5_tokens
        self.length = int(self.clip_tokenizers[0].model_max_length) + t5_tokens
        first, second, t5 = models
        self.clips = [
            make_runners((_clip_network(number, model, tokenizer),), settings, release=(model,))[0]
            for number, (model, tokenizer) in enumerate(
                zip((first, second), self.clip_tokenizers, strict=True), start=1
            )
        ]
        self.t5: Runner | None = None
        if t5 is not None:
            tokens = _tokens_input(t5, t5_tokens)
            network = Network("sd3_t5", t5, _t5, {"tokens": tokens}, ("states",))
            self.t5 = make_runners((network,), settings, release=(t5,))[0]
        self.kept = KEPT
        self._kept: OrderedDict[str, TextEmbedding] = OrderedDict()

    @property
    def runners(self) -> tuple[Runner, ...]:
        """Everything that runs a network of it."""
        return (*self.clips, *([self.t5] if self.t5 else []))

    def encode(self, prompts: Iterable[str]) -> list[TextEmbedding]:
        """Embed prompts, without gradients: one embedding of one row each, in their order."""
        asked = list(prompts)
        found = {prompt: self._kept[prompt] for prompt in asked if prompt in self._kept}
        new = [prompt for prompt in dict.fromkeys(asked) if prompt not in found]
        device = self.clips[0].device
        # Neither gradients nor inference mode: a gradient of the transformer may not pass its tensors.
        with self._t5_on(device) if new else nullcontext(), torch.inference_mode(False), torch.no_grad():
            found |= {prompt: self._embed(prompt) for prompt in new}
        for prompt in asked:
            self._kept[prompt] = found[prompt]
            self._kept.move_to_end(prompt)
        while len(self._kept) > self.kept:
            self._kept.popitem(last=False)
        return [found[prompt] for prompt in asked]

    def _t5_on(self, device: torch.device) -> AbstractContextManager[None]:
        """Nothing to move where there is no T5, or an engine runs it, which has weights of its own."""
        if not isinstance(self.t5, EagerRunner):
            return nullcontext()
        return visiting(self.t5.network.module, device)

    def _embed(self, prompt: str) -> TextEmbedding:
        seen = [
            clip.run({"tokens": _tokens(tokenizer, prompt, int(tokenizer.model_max_length)).to(clip.device)})
            for clip, tokenizer in zip(self.clips, self.clip_tokenizers, strict=True)
        ]
        states = torch.cat([one["states"] for one in seen], dim=-1)
        long = self._t5_states(prompt)
        states = torch.cat([pad(states, (0, long.shape[-1] - states.shape[-1])), long], dim=-2)
        return TextEmbedding(states, torch.cat([one["pooled"] for one in seen], dim=-1))

    def _t5_states(self, prompt: str) -> torch.Tensor:
        if self.t5 is None or self.t5_tokenizer is None:
            clip = self.clips[0]
            return torch.zeros(1, self.t5_tokens, self.width, device=clip.device, dtype=clip.dtype)
        tokens = _tokens(self.t5_tokenizer, prompt, self.t5_tokens)
        return self.t5.run({"tokens": tokens.to(self.t5.device)})["states"]


def _tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, length: int) -> torch.Tensor:
    """Tokens [1, length], cut or padded. A beginning long enough is read: a megabyte must not stall a tokenizer."""
    batch = tokenizer(
        [bounded_text(prompt, tokenizer, length)],
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
        verbose=False,
    )
    return cast(torch.Tensor, batch["input_ids"])


def _tokens_input(model: Any, length: int) -> Input:
    return Input((Dimension("batch", 1, 1, 64), length), torch.int64, whole_numbers(0, int(model.config.vocab_size)))


def _clip_network(number: int, model: Any, tokenizer: PreTrainedTokenizerBase) -> Network:
    tokens = _tokens_input(model, int(tokenizer.model_max_length))
    return Network(f"sd3_clip_{number}", model, _clip, {"tokens": tokens}, ("states", "pooled"))


def _clip(model: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    output = model(tokens, output_hidden_states=True)
    return output.hidden_states[-2], output.text_embeds


def _t5(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    if not torch.compiler.is_exporting():
        return model(tokens).last_hidden_state
    # Taken apart into what ONNX has, fused attention leaves its result in another order of memory than was traced.
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        return model(tokens).last_hidden_state
    finally:
        model.set_attn_implementation(usual)
