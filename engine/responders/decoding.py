"""Many prompts through one model at once: rows that have ended leave, waiting ones take their places.

The library's `generate` keeps every row of a batch until the longest has ended, on padding. Here rows stand side by
side with a common right edge: keys and values of a row are the last of its columns, and padding is on the left. A row
that has ended is taken out of the cache, columns that no row uses any more are cut off, and new rows are padded to the
width of the others. Keys carry their positions since they were computed, so nothing is computed anew.

What runs together follows from the prompts, the settings and the size of the device alone. A row's tokens are those of
`generate` on it alone, but for the last bits of its logits.
"""

from __future__ import annotations

import inspect
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from ...base.errors import PrefmillError
from ..settings import Sampling
from .sampling import TokenSampling

MOST_ROWS = 64
"""More rows make a step no cheaper per row on a CPU, and hold a GPU's memory for nothing."""
PREFILL_TOKENS = 8192
"""Of prompts read in one call, padding included: enough to fill a device, few enough for its activations."""
_REFILL = 0.75
"""Share of the rows below which waiting ones are let in: several prompts are read in one call, for little idleness."""
_MEMORY_SHARE = {"cuda": 0.8, "cpu": 0.5}
_PLAIN_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass
class OpenAnswer:
    """A tokenized prompt: `inputs` are the model's, one row of each; what it wrote stands in `tokens` afterwards."""

    inputs: dict[str, torch.Tensor]
    seed: int
    most_tokens: int
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    """Whether a stop token, which is not among `tokens`, ended it."""
    finished: float = 0.0
    """When that was, by `time.perf_counter`."""

    @property
    def done(self) -> bool:
        """Whether nothing more is written."""
        return self.ended or len(self.tokens) == self.most_tokens

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return self.inputs["input_ids"].shape[1]


Read = Callable[[Sequence[OpenAnswer]], dict[str, Any]]
"""Makes the model's inputs of prompts, padded on the left, on the model's device."""


@dataclass
class _Rows:
    """Prompts that are being answered: what the next step needs of them, row by row."""

    prompts: list[OpenAnswer]
    streams: list[torch.Generator]
    mask: torch.Tensor
    """[B, C]: 1 where the cache holds a token of the row."""
    positions: torch.Tensor
    """[B, 1]: of the token that comes next."""
    cache: Any
    """A `DynamicCache`, whose layers are of kinds that have no type in common."""
    last: torch.Tensor
    """[B, 1]: the token that was written last, which the cache does not hold yet."""

    def keep(self, rows: list[int]) -> None:
        """Take all other rows out, and the columns that only they used."""
        chosen = torch.tensor(rows, device=self.mask.device)
        self.prompts, self.streams = [self.prompts[row] for row in rows], [self.streams[row] for row in rows]
        self.mask, self.positions, self.last = self.mask[chosen], self.positions[chosen], self.last[chosen]
        width = max(prompt.length + len(prompt.tokens) - 1 for prompt in self.prompts)
        self.mask = self.mask[:, -width:]
        for layer in self.cache.layers:
            if layer.get_seq_length():
                layer.keys = layer.keys[:, :, -width:][chosen]
                layer.values = layer.values[:, :, -width:][chosen]

    def join(self, fresh: _Rows) -> None:
        """Let rows that were just read stand below these."""
        width = max(self.mask.shape[1], fresh.mask.shape[1])
        self.prompts, self.streams = self.prompts + fresh.prompts, self.streams + fresh.streams
        self.mask = torch.cat([_widened(each.mask, width, 1) for each in (self, fresh)])
        self.positions = torch.cat([self.positions, fresh.positions])
        self.last = torch.cat([self.last, fresh.last])
        for ours, theirs in zip(self.cache.layers, fresh.cache.layers, strict=True):
            if ours.get_seq_length():  # a layer that shares another's holds none
                ours.keys = torch.cat([_widened(layer.keys, width, 2) for layer in (ours, theirs)])
                ours.values = torch.cat([_widened(layer.values, width, 2) for layer in (ours, theirs)])


class Decoder:
    """Answers prompts with a model; `read` makes its inputs of several of them."""

    def __init__(self, model: PreTrainedModel, read: Read) -> None:
        self.model = model
        self._read = read
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        self.plain = kinds <= _PLAIN_LAYERS
        """Whether the model remembers nothing but keys and values; any other model answers one prompt at a time."""
        self._budget = _cache_tokens(model)
        self._stops = _stop_tokens(model)
        self._sparse = "logits_to_keep" in inspect.signature(model.forward).parameters

    @torch.inference_mode()
    def run(self, prompts: Sequence[OpenAnswer], sampling: Sampling) -> None:
        """Answer all prompts. Raises PrefmillError where the model produced NaN: the tokens would be noise."""
        sample = TokenSampling(sampling)
        # Long ones first: neighbours in a batch need little padding, and the short ones fill what is left.
        waiting = deque(sorted(prompts, key=lambda prompt: -prompt.length))
        rows: _Rows | None = None
        while waiting or rows:
            fresh = self._admit(waiting, rows)
            active = self._prefill(fresh, sample) if fresh or rows is None else self._step(rows, sample)
            going = [row for row, prompt in enumerate(active.prompts) if not prompt.done]
            if 0 < len(going) < len(active.prompts):
                active.keep(going)
            left = active if going else None
            if fresh and rows and left:
                rows.join(left)
            elif not fresh or not rows:
                rows = left

    def _admit(self, waiting: deque[OpenAnswer], rows: _Rows | None) -> list[OpenAnswer]:
        """Take those out of `waiting` that are read next; none where the rows that run go on alone."""
        running = rows.prompts if rows else []
        if not waiting:
            return []
        reserved = max(prompt.length + prompt.most_tokens for prompt in [waiting[0], *running])
        limit = max(1, min(MOST_ROWS, self._budget // reserved)) if self.plain else 1
        if running and len(running) > _REFILL * limit:
            return []
        most = min(limit - len(running), max(1, PREFILL_TOKENS // waiting[0].length))
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def _prefill(self, prompts: list[OpenAnswer], sample: TokenSampling) -> _Rows:
        """Read prompts and write the first token of each answer."""
        inputs = self._read(prompts)
        mask = inputs["attention_mask"]
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        if not hasattr(self.model.base_model, "rope_deltas"):  # those count positions in rows and columns by themselves
            inputs = {**inputs, "position_ids": positions}
        cache = DynamicCache() if self.plain else DynamicCache(config=self.model.config)
        logits = self._logits(inputs, cache)
        following = positions[:, -1:] + 1
        if (shift := getattr(self.model.base_model, "rope_deltas", None)) is not None:
            following = following + shift.to(following.device)
        streams = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        rows = _Rows(list(prompts), streams, mask, following, cache, mask[:, :1])
        self._write(rows, logits, sample)
        return rows

    def _step(self, rows: _Rows, sample: TokenSampling) -> _Rows:
        """Write one more token in every row."""
        rows.mask = torch.nn.functional.pad(rows.mask, (0, 1), value=1)
        inputs = {"input_ids": rows.last, "attention_mask": rows.mask, "position_ids": rows.positions}
        logits = self._logits(inputs, rows.cache)
        rows.positions = rows.positions + 1
        self._write(rows, logits, sample)
        return rows

    def _logits(self, inputs: dict[str, Any], cache: DynamicCache) -> torch.Tensor:
        """Logits [B, V] of the token that comes next; the cache grows by the inputs."""
        sparse = {"logits_to_keep": 1} if self._sparse else {}
        return self.model(**inputs, **sparse, past_key_values=cache, use_cache=True).logits[:, -1].float()

    def _write(self, rows: _Rows, logits: torch.Tensor, sample: TokenSampling) -> None:
        chosen = sample(logits, rows.streams)
        # NaN travels as a token that there is none of: one wait for the device a step instead of two.
        told = torch.where(logits.isnan().any(-1), -1, chosen).tolist()
        if -1 in told:
            raise PrefmillError(
                f"{type(self.model).__name__} produced NaN logits in {self.model.dtype}.", "--set engine.dtype=float32"
            )
        rows.last, now = chosen[:, None], time.perf_counter()
        for prompt, token in zip(rows.prompts, told, strict=True):
            prompt.ended = token in self._stops
            if not prompt.ended:
                prompt.tokens.append(token)
            if prompt.done:
                prompt.finished = now


def context_length(model: PreTrainedModel) -> int | None:
    """Tokens that the model can hold, prompt and answer together; None where its config does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _widened(values: torch.Tensor, width: int, axis: int) -> torch.Tensor:
    """Zeros in front of `axis`, up to `width`."""
    missing = width - values.shape[axis]
    return torch.nn.functional.pad(values, (0, 0) * (values.ndim - 1 - axis) + (missing, 0)) if missing else values


def _stop_tokens(model: PreTrainedModel) -> frozenset[int]:
    assert model.generation_config is not None
    end = model.generation_config.eos_token_id
    return frozenset(end) if isinstance(end, list) else frozenset({end})


def _cache_tokens(model: PreTrainedModel) -> int:
    """Tokens whose keys and values fit the device beside the weights: of its whole memory, not of what is free now."""
    text: Any = model.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if model.device.type == "cuda":
        memory = torch.cuda.get_device_properties(model.device).total_memory
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = _MEMORY_SHARE.get(model.device.type, 0.5) * memory - weights
    return max(0, int(room)) // (2 * text.num_hidden_layers * heads * width * model.dtype.itemsize)
